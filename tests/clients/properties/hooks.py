"""What the property-based client is told about this API: some things that exist, and when a refusal is none of its business."""

import json
import os
import re
import zlib

import schemathesis
from schemathesis import GenerationMode

# Ids of what exists, by the name of the part of a path that they stand in.
KNOWN = json.loads(os.environ["FLOTILLA_KNOWN"])

# Why a request that fits its schema may still be refused with 400: what the description says in words.
IN_WORDS = [
    # Lengths are counted in bytes of UTF-8, and for all variables together.
    r"bytes long, at most",
    r"bytes in all, at most",
    # Names are in Unicode's composed form.
    r"\(NFC\)",
    # What the server has, and what the cluster's machines have.
    r"^`cluster` .* is not known; there is ",
    r"the cluster cannot support",
    r"^`tier` must be one of those of the cluster ",
    # What was there before.
    r"^`last_seen` .* is not a token of this server",
    r"^`group_name` can't change",
    r"^`name` can't change",
    r"says something else than `env`",
]


def is_positive(case):
    return case.meta is not None and case.meta.generation.mode is GenerationMode.POSITIVE


@schemathesis.hook
def before_call(context, case, kwargs):
    """Half of the requests are about what exists, but what later requests are about stays."""
    if not is_positive(case) or (case.method.upper() == "DELETE" and "{run_id}" not in case.path):
        return
    for name, value in list((case.path_parameters or {}).items()):
        choice = zlib.crc32(repr((case.path, case.body, value)).encode("utf-8", "replace"))
        if name in KNOWN and choice % 2 and "stream" not in case.path:
            case.path_parameters[name] = KNOWN[name][choice // 2 % len(KNOWN[name])]


@schemathesis.check
def refuses_only_by_what_is_described(ctx, response, case):
    """A request that fits its schema is refused with 400 only for what the description says in words."""
    if response.status_code == 400 and is_positive(case):
        for fault in re.split(r"; (?=`)", response.json()["error"]):
            is_told = any(re.search(reason, fault, re.S) for reason in IN_WORDS)
            assert is_told, f"refused without a bound in the description: {fault}"
