#!/bin/bash
# From a log of another shape to memories and to an answer, with jq before and behind.
#   pipeline.sh events.json
set -euo pipefail

# In: each event becomes a record. Out: one line per record that could not be added.
jq -c '.events[] | {memory: .text, user_id: .who, id: .number, created_at: .at}' "$1" |
    powermem add - --no-infer --jsonl |
    jq -r 'select(.status == "failed" or .status == "rejected") | "\(.line): \(.error.message)"' >&2

powermem search "what does she drink?" --user anna -k 1 --json | jq -r '.results[].memory'
