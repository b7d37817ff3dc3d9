"""The lease: one worker per sync, and none that writes or sends after it has lost it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest
import sqlalchemy as sa
from harness.processes.command import TIMEOUT
from harness.processes.workers import wait_until
from harness.servers.postgres import Server
from harness.worlds.lease_clock import LeaseClock

from warehouse_sync.errors import LeaseLost, WarehouseUnavailable
from warehouse_sync.operations import RunKind
from warehouse_sync.state import runs, syncs
from warehouse_sync.state.lease import Lease
from warehouse_sync.state.migrate import migrate
from warehouse_sync.state.store import State, SyncKey
from warehouse_sync.warehouses.base import Warehouse
from warehouse_sync.warehouses.postgres.warehouse import PostgreSQL

KEY = SyncKey("people", "ads")


@pytest.fixture
def state(warehouse: Warehouse) -> State:
    found = State(warehouse)
    migrate(found)
    return found


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> LeaseClock:
    """The clock that the leases of this process read."""
    installed = LeaseClock()
    installed.install(monkeypatch)
    return installed


def expire(state: State) -> None:
    """Let the lease run out by the warehouse's clock."""
    with state.warehouse.write("expire the lease") as connection:
        connection.execute(sa.update(state.tables.syncs).values(lease_expires_at=state.warehouse.dialect.utc_now(-1)))


def row(state: State) -> sa.Row[tuple[object, ...]]:
    with state.warehouse.connect("read the row") as connection:
        return connection.execute(sa.select(state.tables.syncs)).one()


def is_held(state: State) -> bool:
    """Return whether the lease lasts, by the warehouse's clock."""
    with state.warehouse.connect("read the lease") as connection:
        lasts = state.tables.syncs.c.lease_expires_at > state.warehouse.dialect.utc_now()
        return connection.scalar(sa.select(sa.func.count()).select_from(state.tables.syncs).where(lasts)) == 1


def take(state: State) -> Lease:
    lease = Lease.take(state, KEY)
    assert lease is not None
    return lease


def test_only_one_worker_gets_it(state: State) -> None:
    """While one worker holds the lease another one gets none; after its release the next one does."""
    first = take(state)
    assert Lease.take(state, KEY) is None
    first.release()
    assert take(state).token == first.token + 1


def test_two_syncs_have_two_leases(state: State) -> None:
    """A lease is of one sync, destination and audience."""
    take(state)
    for other in (SyncKey("others", "ads"), SyncKey("people", "elsewhere"), SyncKey("people", "ads", "de")):
        assert Lease.take(state, other) is not None


def test_one_of_many_workers_at_once_takes_it(state: State) -> None:
    """Of twenty workers that take it at the same time exactly one gets it."""
    got: list[Lease | None] = []
    start = threading.Barrier(20)

    def ask() -> None:
        start.wait()
        got.append(Lease.take(state, KEY))

    workers = [threading.Thread(target=ask) for _ in range(20)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert len(got) == 20
    assert sum(lease is not None for lease in got) == 1


def test_one_of_many_workers_takes_it_on_an_empty_database(postgres: Server) -> None:
    """Of ten workers, each with a warehouse of its own, that begin on an empty database exactly one gets the lease."""
    with postgres.database() as url:
        states = [State(PostgreSQL("analytics", url, "warehouse_sync", 60.0)) for _ in range(10)]
        for step in (migrate, lambda state: Lease.take(state, KEY)):
            begun = threading.Barrier(len(states))
            with ThreadPoolExecutor(len(states)) as threads:
                results = list(threads.map(at_once(begun, step), states))
        for state in states:
            state.warehouse.close()
    assert sum(lease is not None for lease in results) == 1


def at_once(begun: threading.Barrier, step: Callable[[State], object]) -> Callable[[State], object]:
    """Take the step when all threads are ready."""

    def together(state: State) -> object:
        begun.wait()
        return step(state)

    return together


def test_an_expired_one_is_taken_over_and_its_old_holder_is_fenced_off(state: State) -> None:
    """After its expiry another worker owns the sync; the old one can neither renew, nor write, nor begin a run."""
    old = take(state)
    expire(state)
    take(state)
    with pytest.raises(LeaseLost):
        old.renew()
    with pytest.raises(LeaseLost), state.fenced(KEY, old.token, "write"):
        pass
    with pytest.raises(LeaseLost):
        runs.begin(state, old, RunKind.DIFF, "manual", "", None)


def test_what_a_fenced_off_worker_wrote_is_rolled_back(state: State) -> None:
    """A write that is refused changes nothing."""
    old = take(state)
    run = runs.begin(state, old, RunKind.DIFF, "manual", "", None)
    expire(state)
    take(state)
    with pytest.raises(LeaseLost):
        runs.update(state, old, run.run_id, phase="deliver")
    with state.warehouse.connect("read the row") as connection:
        assert connection.scalar(sa.select(state.tables.runs.c.phase)) == "snapshot"


def test_the_old_holder_does_not_release_the_lease_of_the_new_one(state: State) -> None:
    """Releasing a lost lease leaves the new holder's alone."""
    old = take(state)
    expire(state)
    take(state)
    before = row(state)
    old.release()
    assert row(state) == before
    assert Lease.take(state, KEY) is None


def test_it_is_renewed_while_its_holder_lives(warehouse: Warehouse, state: State, clock: LeaseClock) -> None:
    """A holder that works for longer than the lease keeps it."""
    with take(state) as lease:
        for _ in range(3):
            expire(state)
            clock.advance(warehouse.lease_seconds / 2)
            wait_until(lambda: is_held(state), "the lease is renewed")
            assert Lease.take(state, KEY) is None
        lease.require()
    assert Lease.take(state, KEY) is not None


def test_a_suspended_worker_finds_out_before_it_sends(warehouse: Warehouse, state: State, clock: LeaseClock) -> None:
    """A worker that slept past its lease checks it before the next request; after a takeover it sends nothing more."""
    lease = take(state)
    assert lease.permits_request()
    assert lease.is_valid()
    clock.advance(1.5 * warehouse.lease_seconds)
    expire(state)
    assert not lease.is_valid()
    take(state)
    assert lease.wait(0)
    assert lease.is_cancelled
    with pytest.raises(LeaseLost):
        lease.require()


def test_a_suspended_worker_continues_if_no_other_took_over(
    warehouse: Warehouse, state: State, clock: LeaseClock
) -> None:
    """A worker that slept past its lease, which no other worker took, renews it and continues."""
    lease = take(state)
    clock.advance(1.5 * warehouse.lease_seconds)
    expire(state)
    assert not lease.wait(0)
    assert Lease.take(state, KEY) is None


def test_an_unreachable_warehouse_stops_the_sending(
    warehouse: Warehouse, state: State, clock: LeaseClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """When the lease cannot be renewed because the warehouse does not answer, no request is started."""
    lease = take(state)
    clock.advance(0.75 * warehouse.lease_seconds)

    def unavailable(*_: object) -> None:
        raise WarehouseUnavailable("unavailable")

    monkeypatch.setattr(warehouse, "write", unavailable)
    assert not lease.permits_request()
    with pytest.raises(LeaseLost):
        lease.require()


def test_it_is_renewed_from_many_threads(warehouse: Warehouse, state: State, clock: LeaseClock) -> None:
    """Threads that all check the lease before each of their requests keep it, with its token."""
    with take(state) as lease:
        token = lease.token

        def send() -> None:
            for _ in range(5):
                lease.require()
                lease.renew()

        with ThreadPoolExecutor(8) as threads:
            sent = [threads.submit(send) for _ in range(8)]
            while not all(future.done() for future in sent):
                clock.advance(warehouse.lease_seconds / 2)
                time.sleep(0.01)
        for future in sent:
            future.result()
        assert Lease.take(state, KEY) is None
        assert lease.permits_request()
    assert take(state).token == token + 1


@pytest.mark.parametrize("taken_over", [False, True])
def test_a_heartbeat_outlives_a_lost_warehouse(
    warehouse: Warehouse, state: State, clock: LeaseClock, monkeypatch: pytest.MonkeyPatch, *, taken_over: bool
) -> None:
    """The lease is renewed as soon as the warehouse is back, unless another worker has taken it; then all ends."""
    asked = threading.Event()
    with take(state) as lease:
        with monkeypatch.context() as patched:

            def unavailable(*_: object) -> None:
                asked.set()
                raise WarehouseUnavailable("unavailable")

            patched.setattr(warehouse, "write", unavailable)
            clock.advance(warehouse.lease_seconds / 2)
            assert asked.wait(TIMEOUT)
        expire(state)
        if taken_over:
            take(state)
            clock.advance(warehouse.lease_seconds / 2)
            wait_until(lambda: lease.is_cancelled, "the heartbeat finds the other worker")
            assert lease.wait(0)
            with pytest.raises(LeaseLost):
                lease.require()
        else:
            clock.advance(warehouse.lease_seconds / 2)
            wait_until(lambda: is_held(state), "the heartbeat renews the lease")
            assert Lease.take(state, KEY) is None
            assert not lease.is_cancelled
            lease.require()


def test_connections_that_the_server_ends_do_not_lose_it(postgres: Server) -> None:
    """A lease survives the end of all its connections: the next renewal makes a new one."""
    with postgres.database() as url:
        state = State(PostgreSQL("analytics", url, "warehouse_sync", 60.0))
        migrate(state)
        lease = take(state)
        killer = sa.create_engine(url, poolclass=sa.NullPool)
        for _ in range(3):
            with killer.connect() as connection:
                connection.execute(
                    sa.text(
                        "select pg_terminate_backend(pid) from pg_stat_activity "
                        "where datname = current_database() and pid <> pg_backend_pid()"
                    )
                )
            lease.renew()
        lease.release()
        assert take(state).token == lease.token + 1
        state.warehouse.close()


def test_a_lost_lease_stops_the_holder_by_its_heartbeat(warehouse: Warehouse, state: State, clock: LeaseClock) -> None:
    """The thread that renews finds that another worker has taken over, and ends the sending."""
    with take(state) as lease:
        with warehouse.write("steal the lease") as connection:
            connection.execute(sa.update(state.tables.syncs).values(lease_token=state.tables.syncs.c.lease_token + 1))
        clock.advance(warehouse.lease_seconds / 2)
        wait_until(lambda: lease.is_cancelled, "the heartbeat finds the other worker")
        assert lease.wait(0)
        with pytest.raises(LeaseLost):
            lease.require()


def test_a_sync_without_a_run_has_no_promoted_run(state: State) -> None:
    """Reading a sync that never ran gives a row without a promoted run."""
    assert syncs.read(state, KEY) == syncs.SyncRow(None, None, None)


def test_run_numbers_are_unique_over_syncs(state: State) -> None:
    """Two syncs never get the same run number, so their tables never collide."""
    leases = [take(state), *(lease for name in "ab" if (lease := Lease.take(state, SyncKey(name, "ads"))))]
    numbers = [runs.begin(state, lease, RunKind.DIFF, "manual", "", None).run_id for lease in leases for _ in range(3)]
    assert len(set(numbers)) == 9
