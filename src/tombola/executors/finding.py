"""Finding a backend by its name; one of the user's own is held to what a backend promises."""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import CancelledError, Future
from typing import Any

from tombola.executors.backend import Backend, Setting
from tombola.ground import catalogue
from tombola.ground.contracts import CONTRACTS
from tombola.ground.errors import ConfigError, shown
from tombola.search.work import Work


def make_backend(name: str, setting: Setting, options: Mapping[str, Any]) -> Backend:
    """Make the backend of that name: an entry of `tombola.executors`, or
    ``package.module:function``.

    Raises:
        ConfigError: There is none, it lacks an option, or the user's own is none.
    """
    entry = catalogue.entry("tombola.executors", name)
    with catalogue.own_code(name, "executors"):
        backend: Backend = catalogue.call(entry, name, setting, options=options)
    return _Own(name, backend) if catalogue.is_own(name) else backend


class _Own:
    """A backend of the user's own: whatever it does against its promises fails that work in one
    line.

    Without it an answer of another kind would end the one thread that hears of all that happens.
    """

    def __init__(self, name: str, backend: object) -> None:
        self._name, self._closed = name, False
        if not isinstance(backend, Backend):
            raise self._error(
                f"gives a {type(backend).__name__}, which lacks slots, submit or close"
            )
        self.own = backend
        if not isinstance(backend.slots, int) or backend.slots < 1:
            raise self._error(f"has {shown(backend.slots)} slots; it is a whole number from 1 on")

    @property
    def slots(self) -> int:
        return self.own.slots

    def submit(self, work: Work[Any], digest: str) -> Future[bytes | None]:
        with catalogue.own_code(self._name, "executors"):
            begun = self.own.submit(work, digest)
        if not isinstance(begun, Future):
            raise self._error(
                f"submits work and gives a {type(begun).__name__}; a concurrent.futures.Future is "
                "needed"
            )
        checked: Future[bytes | None] = Future()
        begun.add_done_callback(lambda done: self._pass_on(done, checked))
        return checked

    def _pass_on(self, done: Future[Any], checked: Future[bytes | None]) -> None:
        """Give the answer of the user's future to the pool's, or say what is wrong with it."""
        if done.cancelled():
            cancelled = self._error("cancels work that it was told to begin")
            checked.set_exception(CancelledError() if self._closed else cancelled)
        elif (error := done.exception()) is not None:
            checked.set_exception(error)
        elif isinstance(done.result(), bytes | None):
            checked.set_result(done.result())
        else:
            kind = type(done.result()).__name__
            checked.set_exception(
                self._error(f"answers with a {kind}; the result's bytes or None are needed")
            )

    def close(self, *, now: bool) -> None:
        self._closed = True
        with catalogue.own_code(self._name, "executors"):
            self.own.close(now=now)

    def _error(self, what: str) -> ConfigError:
        return ConfigError(
            f"{shown(self._name)} {what}; {CONTRACTS['executors'].in_words()} (tombola list "
            "executors)"
        )
