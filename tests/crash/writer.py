"""The process that writes, dying at a named point: what the harness has started in place of ``engine.store.process``.

Which point stands in the environment that the launcher gave the engine. The engine goes on without the process.
"""

import json
import os
import sys
from pathlib import Path
from typing import Any

from engine.store.process import __main__ as real

from .counters import ORDER, WRITER, Counters, Killer


def install(killer: Killer) -> None:
    """Wrap its COMMIT and its moving of the log."""
    begin, move = real.Process.__init__, real.Process.move

    def begun(self: real.Process, *args: Any, **kwargs: Any) -> None:
        killer.passed("writer.start.before")
        begin(self, *args, **kwargs)
        killer.passed("writer.start.after")
        execute = self._execute

        def counted(statement: str, *parameters: Any) -> Any:
            if statement != "COMMIT":
                return execute(statement, *parameters)
            killer.passed("writer.commit.before")
            result = execute(statement, *parameters)
            killer.passed("writer.commit.after")
            return result

        self._execute = counted  # type: ignore[assignment]

    def moved(self: real.Process) -> Any:
        killer.passed("writer.move.before")
        result = move(self)
        killer.passed("writer.move.after")
        return result

    real.Process.__init__, real.Process.move = begun, moved  # type: ignore[method-assign]


def main() -> None:
    """Be the process."""
    order = json.loads(os.environ[ORDER])
    point = order["point"] if order["point"].startswith(WRITER) else ""
    install(Killer(Counters(Path(order["counters"]), order["points"]), point, order["nth"]))
    real.main(int(sys.argv[1]))


if __name__ == "__main__":
    main()
