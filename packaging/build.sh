#!/usr/bin/env bash
# Makes the Debian package and the tarball from one release build, with checksums, and tries the package.
# usage: build.sh [--no-try] [--image NAME]
#
#   --no-try      leave the package untried: trying it needs root, and a machine without a Switchboard
#   --image NAME  make a container image from the same build as well, with docker, podman or buildah
set -euo pipefail
cd "$(dirname "$0")/.."

tries=yes
image=
while [ $# -gt 0 ]; do
    case "$1" in
        --no-try) tries=no ;;
        --image) image=${2:?"--image takes a name"} && shift ;;
        *) sed -n '3,6s/^# \{0,1\}//p' "$0" >&2 && exit 2 ;;
    esac
    shift
done

# Of this one the metadata in Cargo.toml is tried.
cargo_deb=3.8.0
target=$(realpath -m "${CARGO_TARGET_DIR:-target}")
out=$target/packages
parts=target/packaging
host=$(rustc -vV | sed -n 's/^host: //p')
version=$(sed -n 's/^version = "\(.*\)"$/\1/p' Cargo.toml | head -n 1)

cargo build --release --locked --bin switchboard
program=$target/release/switchboard

# Files carry the time of the commit, so that the same commit gives the same archives. Set after the
# build: the build scripts of C libraries would take the variable for a reason to run again.
SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct)}
export SOURCE_DATE_EPOCH

rm -rf "$out" "$parts"
mkdir -p "$out" "$parts"
python3 packaging/notices.py "$host" >"$parts/THIRD-PARTY-NOTICES"

# The package's unit is the one in contrib with the package's paths, and without the words on an installation by hand.
sed -e '1,/^$/d' \
    -e 's|/usr/local/bin/switchboard|/usr/bin/switchboard|' \
    -e 's|/etc/switchboard\.env|/etc/switchboard/switchboard.env|' \
    contrib/switchboard.service >"$parts/switchboard.service"
grep -qx 'ExecStart=/usr/bin/switchboard serve' "$parts/switchboard.service"
grep -qx 'EnvironmentFile=-/etc/switchboard/switchboard.env' "$parts/switchboard.service"

# Man pages and completions.
"$program" man "$parts/man"
for shell in bash zsh fish; do
    "$program" completions "$shell" >"$parts/switchboard.$shell"
done
gzip -9n "$parts"/man/*.1

# The tarball: what an installation by hand needs.
name=switchboard-$version-$host
mkdir "$parts/$name"
install -m 0755 "$program" "$parts/$name/switchboard"
install -m 0644 LICENSE README.md CHANGELOG.md "$parts/THIRD-PARTY-NOTICES" packaging/switchboard.env \
    contrib/switchboard.service contrib/switchboard.socket contrib/litestream.yml "$parts/$name/"
mkdir "$parts/$name/man" "$parts/$name/completions"
install -m 0644 "$parts"/man/*.1.gz "$parts/$name/man/"
install -m 0644 "$parts"/switchboard.{bash,zsh,fish} "$parts/$name/completions/"
tar --create --directory "$parts" --sort=name --format=gnu --owner=0 --group=0 --numeric-owner \
    --mtime="@$SOURCE_DATE_EPOCH" "$name" | gzip -9n >"$out/$name.tar.gz"

# The Debian package. The build has already dropped what is to be dropped from the program.
PATH=$target/tools/bin:$PATH
if ! cargo deb --version 2>/dev/null | grep -qF "$cargo_deb"; then
    cargo install cargo-deb --locked --version "$cargo_deb" --root "$target/tools"
fi
cargo deb --no-build --no-strip --locked --output "$out/"

if [ -n "$image" ]; then
    bash packaging/image.sh "$image" "$out/$name.tar.gz"
fi

(cd "$out" && sha256sum -- *.deb *.tar.gz >SHA256SUMS)
printf '\n'
(cd "$out" && sha256sum --check SHA256SUMS && ls -l)

if [ "$tries" = yes ]; then
    bash packaging/try.sh "$out"/*.deb "$out/$name.tar.gz"
fi
