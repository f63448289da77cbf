#!/usr/bin/env bash
# One night of a segmentation: fit tonight's people as the continuation of the last good night, behind the gate.
#
#   SOURCE='postgresql://reader:${DB_PASSWORD}@db/app' QUERY='SELECT * FROM members ORDER BY user_id' RUNS=/data/runs nightly.sh
#
# SOURCE is a database's URL with QUERY, or files without it. ID names the id column (user_id). Further arguments go to
# `rooms fit`. Every night leaves RUNS/<date>, a complete run or nothing, and RUNS/latest leads to the last good one.
# Start it again with the same variables after an interruption: a complete night is not repeated.
#
# Exit code: 0, or that of `rooms fit`: 7 if the gate stopped the night. RUNS/latest stays as it was then.
set -euo pipefail

runs=${RUNS:-runs}
night=$runs/$(date +%F)
mkdir -p "$runs"

if [[ ! -e $night/_SUCCESS ]]; then
    options=(--id "${ID:-user_id}" --out "$night")
    if [[ -n ${QUERY:-} ]]; then
        options+=(--query "$QUERY") # rows may be others by now, so it begins again after an interruption
    else
        options+=(--resume)
    fi
    if [[ -e $runs/latest/_SUCCESS ]]; then
        options+=(--previous "$(readlink -f "$runs/latest")" --gate)
    fi
    rooms fit "$SOURCE" "${options[@]}" "$@"
fi
ln -sfn "$(basename "$night")" "$runs/.latest"
mv -T "$runs/.latest" "$runs/latest" # at once, so that readers never find none
