#!/bin/sh
# Makes a PostgreSQL cluster with TLS for localhost, prints its folder, and runs it until standard input ends.
#
#   sh tests/postgres/cluster.sh BIN PORT PRIMARY [SETTING...]
#
# BIN is the folder of the server's programs. PRIMARY is the port of the cluster to be a standby of, or -. SETTINGs are
# lines of postgresql.conf. The server refuses to run as root. The folder has ca.pem, the CA of the certificate, and
# other.pem, a CA that has nothing to do with it.
set -e
trap '' INT TERM
bin=$1 port=$2 primary=$3; shift 3
folder=$(mktemp -d "${TMPDIR:-/tmp}/switchboard-cluster-XXXXXX")
chmod 755 "$folder"
data=$folder/data log=$folder/log
if [ "$primary" = - ]; then
    "$bin/initdb" -D "$data" -U postgres --auth=trust -E UTF8 --locale=C.UTF-8 --no-sync >"$log"
    cd "$data"
    for ca in ca other; do
        openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj "/CN=The $ca" \
            -addext basicConstraints=critical,CA:TRUE -keyout $ca.key -out "$folder/$ca.pem" 2>>"$log"
    done
    openssl req -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -subj /CN=localhost \
        -keyout server.key -out server.csr 2>>"$log"
    printf 'subjectAltName=DNS:localhost\nbasicConstraints=CA:FALSE\n' >server.ext
    openssl x509 -req -days 2 -in server.csr -CA "$folder/ca.pem" -CAkey ca.key -CAcreateserial -extfile server.ext \
        -out server.crt 2>>"$log"
    chmod 600 server.key
    { printf 'host all guarded all scram-sha-256\nhostnossl all only_tls all reject\nhostssl all only_plain all reject\n'
      cat pg_hba.conf; } >hba.new
    mv hba.new pg_hba.conf
    printf "listen_addresses = '127.0.0.1'\nunix_socket_directories = '%s'\nssl = on\n" "$folder" >>postgresql.conf
else
    "$bin/pg_basebackup" -D "$data" -h 127.0.0.1 -p "$primary" -U postgres -R -X stream -c fast --no-sync 2>>"$log"
    printf "unix_socket_directories = '%s'\nprimary_conninfo = 'host=127.0.0.1 port=%s user=postgres application_name=second'\n" \
        "$folder" "$primary" >>"$data/postgresql.auto.conf"
fi
cd /
for setting; do echo "$setting" >>"$data/postgresql.auto.conf"; done
echo "port = $port" >>"$data/postgresql.auto.conf"
"$bin/pg_ctl" start -w -D "$data" -l "$log" >/dev/null || { cat "$log" >&2; exit 1; }
echo "$folder"
cat >/dev/null
"$bin/pg_ctl" stop -m immediate -D "$data" >/dev/null 2>&1 || true
rm -rf "$folder"
