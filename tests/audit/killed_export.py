"""Exports in processes that kill themselves after some rows: `python -m tests.audit.killed_export`.

write KIND PATH [ROW]   write a log into a file
job ROW                 make an export of the page
job again               go on with it; says as JSON what became of it, and the digest of an unbroken one
"""

import json
import os
import signal
import sys
from collections.abc import Callable
from functools import partialmethod
from pathlib import Path

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "qexplorer_site.settings")

import django  # noqa: E402

django.setup()

from django.conf import settings  # noqa: E402
from django.contrib.auth.models import User  # noqa: E402

from audit import exports  # noqa: E402
from audit.logs import FileRequest, Privacy, Pseudonyms, Window, files, get_stream, write_file  # noqa: E402
from audit.logs.reading import Stream  # noqa: E402
from audit.logs.trec import TrecStream  # noqa: E402
from audit.models import Export, ExportFormat, JobState  # noqa: E402

files.PART_ROWS = 100
Stream.chunks = partialmethod(Stream.chunks, size=50)  # type: ignore[assignment]
TrecStream.chunks = partialmethod(TrecStream.chunks, size=1)  # type: ignore[assignment]  # a run has 100 rows here


def killing_at(row: int | None) -> Callable[[int], None]:
    def progress(rows: int) -> None:
        if row is not None and rows >= row:
            os.kill(os.getpid(), signal.SIGKILL)

    return progress


def write(kind: str, path: str, row: str = "") -> None:
    stream = get_stream("trec_run" if kind == "trec" else "flat")
    request = FileRequest(stream, ExportFormat(kind), Window(), Privacy(Pseudonyms("one secret")))
    write_file(request, Path(path), progress=killing_at(int(row) if row else None))


def job(row: str) -> None:
    if row != "again":
        exports._teller = lambda export_id: killing_at(int(row))
        exports.run_export(_asked().pk)
    export = Export.objects.get()
    exports.run_export(export.pk)
    export.refresh_from_db()
    unbroken = _asked()
    exports.run_export(unbroken.pk)
    unbroken.refresh_from_db()
    told = {
        "state": export.state,
        "rows": export.rows,
        "parts": export.manifest.get("parts"),
        "digest": export.digest,
        "unbroken": unbroken.digest,
        "left": [str(path) for path in (Path(settings.VAR_DIR) / "exports").iterdir()],
    }
    sys.stdout.write(json.dumps(told))


def _asked() -> Export:
    user = User.objects.get(is_superuser=False)
    return Export.objects.create(user=user, stream="flat", format="jsonl", state=JobState.QUEUED)


if __name__ == "__main__":
    if sys.argv[1] == "write":
        write(*sys.argv[2:])
    else:
        job(sys.argv[2])
