#!/usr/bin/env bash
# Installs the Debian package on this machine, runs the server as the package's user, and removes all of it again.
# usage: try.sh PACKAGE.deb TARBALL.tar.gz
#
# Needs root, and a machine that has no Switchboard. systemd need not run.
set -euo pipefail
package=$(realpath "$1")
tarball=$(realpath "$2")
cd "$(dirname "$0")/.."

user=switchboard
program=/usr/bin/switchboard
unit=/usr/lib/systemd/system/switchboard.service
settings=/etc/switchboard/switchboard.env
data=/var/lib/switchboard
# What tests/systemd/check.sh allows, of 100.
exposure=$(sed -n 's/^max_exposure=//p' tests/systemd/check.sh)
# How long a server may take until it listens.
patience_s=60
export DEBIAN_FRONTEND=noninteractive LC_ALL=C

fail() {
    printf 'FAILED: %s\n' "$*" >&2
    exit 1
}

# is WHAT EXPECTED FOUND
is() {
    [ "$2" = "$3" ] || fail "$1 is '$3', not '$2'"
    printf 'ok: %s is %s\n' "$1" "${2:-empty}"
}

of_file() {
    stat --format='%U:%G %a' "$1"
}

[ "$(id -u)" = 0 ] || fail 'installing a package needs root; --no-try leaves it out'
for one in "$program" "$unit" /etc/switchboard "$data"; do
    [ ! -e "$one" ] || fail "$one is there already: this machine has a Switchboard"
done

account=$(getent passwd "$user" || true)
folder=$(mktemp -d)
chmod 0755 "$folder"
server=
clean_up() {
    status=$?
    trap - EXIT
    if [ -n "$server" ]; then
        kill -KILL "$server" || true
        wait "$server" || true
    fi
    if [ "$status" != 0 ]; then
        dpkg --purge switchboard || true
        rm -rf "$data"
    fi
    # A purge leaves the account, and this machine does not need it.
    if [ -z "$account" ] && getent passwd "$user" >/dev/null; then
        userdel "$user"
    fi
    rm -rf "$folder"
    exit "$status"
}
trap clean_up EXIT

# Starts the server as the unit does, but for the sandbox: its user, its command, its environment and its umask.
start_server() {
    mkfifo "$folder/log"
    local line environment
    mapfile -t line < <(sed -n 's/^ExecStart=//p' "$unit" | tr ' ' '\n')
    mapfile -t environment < <(sed -n 's/^Environment=//p' "$unit" | tr ' ' '\n')
    local given=("$@")
    (
        umask "$(sed -n 's/^UMask=//p' "$unit")"
        cd /
        exec setpriv --reuid "$user" --regid "$user" --init-groups --no-new-privs --bounding-set=-all \
            env -i PATH=/usr/bin:/bin "${environment[@]}" "${given[@]}" "${line[@]}"
    ) 2>"$folder/log" &
    server=$!
    exec {log}<"$folder/log"
    rm "$folder/log"
    address=
    local said=()
    while read -r -t "$patience_s" text <&"$log"; do
        said+=("$text")
        if [[ $text =~ listening\ on\ http://([0-9.:]+) ]]; then
            address=${BASH_REMATCH[1]}
            return
        fi
    done
    printf '%s\n' "${said[@]}" >&2
    fail 'the server does not listen'
}

# Ends the server as systemd does.
stop_server() {
    kill -TERM "$server"
    local status=0
    wait "$server" || status=$?
    server=
    exec {log}<&-
    is "the server's exit status after SIGTERM" 0 "$status"
}

as_user() {
    runuser -u "$user" -- env SWITCHBOARD_DATA="$data" SWITCHBOARD_ENV=prod "$@"
}

printf '\n== install\n'
apt-get install -q -y --no-install-recommends "$package" >"$folder/apt" 2>&1 || { cat "$folder/apt" >&2 && exit 1; }
is 'the state of the package' 'install ok installed' "$(dpkg-query --show --showformat='${Status}' switchboard)"
dpkg --verify switchboard
tar --extract --gzip --file "$tarball" --directory "$folder" --strip-components=1
cmp "$folder/switchboard" "$program"
printf 'ok: the package and the tarball have the same program\n'
version=$(dpkg-query --show --showformat='${Version}' switchboard)
is 'what the program says of its version' "switchboard ${version%-*}" "$("$program" --version | cut -d ' ' -f 1,2)"
for one in man/man1/switchboard.1.gz man/man1/switchboard-serve.1.gz bash-completion/completions/switchboard \
    zsh/vendor-completions/_switchboard fish/vendor_completions.d/switchboard.fish; do
    [ -s "/usr/share/$one" ] || fail "the package lacks /usr/share/$one"
done
is "the account's home and shell" "$data:/usr/sbin/nologin" "$(getent passwd "$user" | cut -d: -f6,7)"
is 'the data folder' "$user:$user 700" "$(of_file "$data")"
is 'the settings file' 'root:root 600' "$(of_file "$settings")"

printf '\n== the unit\n'
said=$(systemd-analyze verify "$unit" 2>&1)
is 'what systemd finds wrong' '' "$said"
systemd-analyze security --offline=yes --no-pager --threshold="$exposure" "$unit" | tail -n 1
is 'the unit' enabled "$(systemctl is-enabled switchboard)"
if [ -d /run/systemd/system ]; then
    is 'the service' active "$(systemctl is-active switchboard)"
    systemctl stop switchboard
fi

printf '\n== the settings file\n'
names() {
    grep -o 'SWITCHBOARD_[A-Z_]*' | sort -u
}
is 'what the settings file and --help do not both name' '' \
    "$(diff <(names <"$settings") <(as_user "$program" serve --help | names) || true)"
# Every example is valid. Entra ID is left out: the server would ask the authority for its keys.
mapfile -t examples < <(sed -n 's/^#\([A-Z_]*=.*\)/\1/p' "$settings" | grep -v -e ENTRA -e LISTEN)
start_server "${examples[@]}" SWITCHBOARD_LISTEN=127.0.0.1:0 SWITCHBOARD_METRICS_LISTEN=127.0.0.1:0
printf 'ok: a server starts with all of %s settings\n' "${#examples[@]}"
stop_server

printf '\n== the server, as the user of the unit\n'
as_user "$program" tenants create --client-id northwind-it --name 'Northwind IT'
key=$(as_user "$program" keys create --tenant northwind-it --name relay | tail -n 1)
start_server SWITCHBOARD_LISTEN=127.0.0.1:0
is 'the user of the process' "$user" "$(stat --format=%U "/proc/$server")"
# request EXPECTED_STATUS PATH [CURL_ARGUMENT…]
request() {
    local expected=$1 path=$2
    shift 2
    is "the status of GET $path" "$expected" \
        "$(curl --silent --show-error --max-time "$patience_s" --output "$folder/body" --write-out '%{http_code}' \
            "$@" "http://$address$path")"
}
request 200 /ready
request 401 /public-api/whoami
request 200 /public-api/whoami --header "Authorization: Bearer $key"
grep -q northwind-it "$folder/body"
request 200 /dashboard
request 200 /docs
stop_server
is 'the database' "$user:$user 600" "$(of_file "$data/switchboard.db")"
is 'the secret' "$user:$user 600" "$(of_file "$data/signing.secret")"

printf '\n== an upgrade keeps the settings and the data\n'
echo 'SWITCHBOARD_RATE_LIMIT=600' >>"$settings"
before=$(sha256sum "$settings" "$data/switchboard.db")
dpkg --install "$package" >"$folder/dpkg" 2>&1 || { cat "$folder/dpkg" >&2 && exit 1; }
if [ -d /run/systemd/system ]; then
    systemctl stop switchboard
else
    [ "$before" = "$(sha256sum "$settings" "$data/switchboard.db")" ] || fail 'an upgrade changed settings or data'
    printf 'ok: an upgrade changes neither\n'
fi
is 'the settings file' 'root:root 600' "$(of_file "$settings")"
as_user "$program" tenants list | grep northwind-it

printf '\n== remove, then purge\n'
dpkg --remove switchboard >"$folder/dpkg" 2>&1
[ ! -e "$program" ] && [ ! -e "$unit" ] || fail 'the program or the unit is still there'
[ -e "$data/switchboard.db" ] && [ -e "$settings" ] || fail 'a removal took data or settings'
printf 'ok: a removal leaves the data and the settings\n'
: >"$data/monday.db"
dpkg --purge switchboard >"$folder/dpkg" 2>&1
is 'what a purge leaves of the data' monday.db "$(ls -A "$data")"
grep 'stays' "$folder/dpkg"
rm "$data/monday.db"
rmdir "$data"
for one in /etc/switchboard /etc/systemd/system/multi-user.target.wants/switchboard.service /usr/share/doc/switchboard; do
    [ ! -e "$one" ] && [ ! -L "$one" ] || fail "a purge leaves $one"
done
printf 'ok: a purge leaves backups, the account, and nothing else\n'
