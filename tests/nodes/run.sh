#!/bin/sh
# The failure suite of several nodes with large numbers: tests/nodes/run.sh [KILLS]
# Needs PostgreSQL's programs, and SWITCHBOARD_TEST_POSTGRES: the URL of a superuser on a server that the tests do not stop.
set -eu
: "${SWITCHBOARD_TEST_POSTGRES:?set it to a URL such as postgres://postgres@127.0.0.1:5432/postgres}"
export SWITCHBOARD_TEST_KILLS="${1:-1000}"
export SWITCHBOARD_TEST_STOPS="${SWITCHBOARD_TEST_STOPS:-50}"
export SWITCHBOARD_TEST_CUTS="${SWITCHBOARD_TEST_CUTS:-25}"
export SWITCHBOARD_TEST_RESTARTS="${SWITCHBOARD_TEST_RESTARTS:-20}"
export SWITCHBOARD_TEST_SECONDS="${SWITCHBOARD_TEST_SECONDS:-14400}"
cd "$(dirname "$0")/../.."
exec cargo test --test it -- nodes:: --include-ignored --nocapture --test-threads 1
