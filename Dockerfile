# Built from the checkout: docker build -t warehouse-sync .
ARG BASE_IMAGE=python:3.13-slim

FROM ${BASE_IMAGE} AS build
WORKDIR /src
COPY pyproject.toml README.md LICENSE ./
COPY migrations ./migrations
COPY warehouse_sync ./warehouse_sync
RUN python -m venv /opt/warehouse-sync \
    && /opt/warehouse-sync/bin/pip install --no-cache-dir '.[postgres]'

FROM ${BASE_IMAGE}
COPY --from=build /opt/warehouse-sync /opt/warehouse-sync
ENV PATH=/opt/warehouse-sync/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    WAREHOUSE_SYNC_CONFIG=/etc/warehouse-sync
RUN useradd --system --uid 10001 --no-create-home warehouse-sync
USER 10001
ENTRYPOINT ["warehouse-sync"]
CMD ["run", "--all"]
