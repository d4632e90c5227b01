#!/usr/bin/env bash
# Makes the container image of the Dockerfile with the program of a tarball, so that nothing is built again.
# usage: image.sh NAME TARBALL.tar.gz
set -euo pipefail
name=$1
tarball=$(realpath "$2")
cd "$(dirname "$0")/.."

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
tar --extract --gzip --file "$tarball" --directory "$folder" --strip-components=1 --wildcards '*/switchboard'

# The Dockerfile's first stage is named build; a folder of that name takes its place.
builder=$(type -P docker || type -P buildah || type -P podman)
"$builder" build --build-context "build=$folder" --tag "$name" .
