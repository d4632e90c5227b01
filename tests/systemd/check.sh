#!/usr/bin/env bash
# Checks contrib/switchboard.service with systemd: the unit has no error, and its exposure is low.
# usage: check.sh SWITCHBOARD_BINARY
set -euo pipefail
unit=$(dirname "$0")/../../contrib/switchboard.service
# The highest allowed exposure. systemd-analyze prints it as 1.1 of 10.
max_exposure=11

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
# The path in the unit is replaced by the binary under test.
installed=/usr/local/bin/switchboard
grep -q "^ExecStart=$installed serve$" "$unit"
sed "s|$installed|$(realpath "$1")|" "$unit" >"$folder/switchboard.service"

errors=$(systemd-analyze verify "$folder/switchboard.service" 2>&1)
if [ -n "$errors" ]; then
    printf '%s\n' "$errors"
    exit 1
fi
systemd-analyze security --offline=yes --no-pager --threshold="$max_exposure" "$folder/switchboard.service" | tail -n 1
