#!/usr/bin/env bash
# Holds contrib/switchboard.service to what systemd itself says of it: no fault, and little that a broken program could reach.
# usage: check.sh SWITCHBOARD_BINARY
set -euo pipefail
unit=$(dirname "$0")/../../contrib/switchboard.service
# The exposure that is allowed, of 100.
most=11

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
# The unit names a place that the program is not installed at here.
installed=/usr/local/bin/switchboard
grep -q "^ExecStart=$installed serve$" "$unit"
sed "s|$installed|$(realpath "$1")|" "$unit" >"$folder/switchboard.service"

said=$(systemd-analyze verify "$folder/switchboard.service" 2>&1)
if [ -n "$said" ]; then
    printf '%s\n' "$said"
    exit 1
fi
systemd-analyze security --offline=yes --no-pager --threshold="$most" "$folder/switchboard.service" | tail -n 1
