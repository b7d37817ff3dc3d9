# docker build -t warehouse-sync .
# Any base with Python 3.11 or later, its venv module and glibc will do: --build-arg BASE_IMAGE=python:3.13-slim
ARG BASE_IMAGE=python:3.12-slim

FROM ${BASE_IMAGE} AS build
WORKDIR /src
COPY pyproject.toml README.md LICENSE ./
COPY migrations ./migrations
COPY warehouse_sync ./warehouse_sync
# A wheel first, so that the second stage gets what a release holds, and nothing of the checkout.
RUN python3 -m venv /opt/warehouse-sync \
    && /opt/warehouse-sync/bin/pip wheel --no-cache-dir --no-deps --wheel-dir /dist . \
    && wheel="$(echo /dist/warehouse_sync-*.whl)" \
    && /opt/warehouse-sync/bin/pip install --no-cache-dir "${wheel}[all]" \
    && /opt/warehouse-sync/bin/pip uninstall --yes --quiet pip

FROM ${BASE_IMAGE}
ARG VERSION=""
ARG REVISION=""
LABEL org.opencontainers.image.title="warehouse-sync" \
      org.opencontainers.image.description="Keeps a LinkedIn audience equal to a warehouse query" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
COPY --from=build /opt/warehouse-sync /opt/warehouse-sync
# Drivers want a name and a home; DuckDB files lie in /data, so that a fresh volume there belongs to the worker.
RUN groupadd --gid 10001 warehouse-sync \
    && useradd --uid 10001 --gid 10001 --home-dir /tmp --no-create-home --shell /usr/sbin/nologin warehouse-sync \
    && install --directory --owner=10001 --group=10001 /data /etc/warehouse-sync
ENV PATH=/opt/warehouse-sync/bin:$PATH \
    HOME=/tmp \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    WAREHOUSE_SYNC_CONFIG=/etc/warehouse-sync
WORKDIR /data
USER 10001:10001
EXPOSE 8080
# Asks `serve` alone: a container with any other verb is well as long as its process is there.
HEALTHCHECK --interval=30s --timeout=5s --start-period=60s CMD ["python3", "-c", "import http.client, pathlib, sys; words = pathlib.Path('/proc/1/cmdline').read_bytes().split(b'\\0'); port = next((int(port) for name, port in zip(words, words[1:]) if name == b'--port'), 8080); serve = http.client.HTTPConnection('127.0.0.1', port, timeout=4); b'serve' in words and b'run' not in words and (serve.request('GET', '/healthz'), sys.exit(serve.getresponse().status != 200))"]
ENTRYPOINT ["warehouse-sync"]
CMD ["serve"]
