#!/bin/sh
# Makes a PostgreSQL image out of the PostgreSQL that Debian has installed on this machine (`apt-get install postgresql`),
# for where no registry is reachable: a stand-in for development, not something to run in production or to publish.
#
#   deploy/postgres/stand-in-image.sh [TAG]        TAG is koseki-postgres:dev unless given
#
# Nothing is downloaded. The image holds the server, initdb, psql, pg_isready, a shell (initdb starts the server through
# one), the libraries that these are linked with, and an entry point that takes the variables of the official image which
# deploy/compose.yaml uses.
set -eu

tag=${1:-koseki-postgres:dev}
here=$(cd "$(dirname "$0")" && pwd)

bin=$(ls -d /usr/lib/postgresql/*/bin 2>/dev/null | sort -t / -k 5 -n | tail -n 1)
if [ -z "$bin" ] || [ ! -x "$bin/initdb" ] || [ ! -x "$bin/postgres" ]; then
    echo "no PostgreSQL server under /usr/lib/postgresql; Debian's package \`postgresql\` has it" >&2
    exit 1
fi
major=$(basename "$(dirname "$bin")")
lib=/usr/lib/postgresql/$major/lib
share=/usr/share/postgresql/$major

context=$(mktemp -d)
trap 'rm -rf "$context"' EXIT
root=$context/root
mkdir -p "$root/etc" "$root/bin" "$context/state"

# What files are given, each at its own path, with symbolic links followed.
copy() {
    cp -rL --parents "$@" "$root"
}

programs="$bin/postgres $bin/initdb $bin/psql $bin/pg_isready"
# The procedural language that migrations and roles.sql use, what initdb sets up for text search, and the conversions
# between UTF-8 and others, which a client may ask for.
modules="$lib/plpgsql.so $lib/dict_snowball.so $(echo "$lib"/utf8_and_*.so)"
# No path has a space in it: they are Debian's.
# shellcheck disable=SC2086
{
    copy $programs $modules
    cp -L /bin/sh "$root/bin/sh"
    # The loader stands alone in its line, a library behind an arrow; the kernel's own page has no path.
    copy $(ldd $programs $modules /bin/sh |
        awk '$2 == "=>" && $3 ~ /^\// { print $3 } $1 ~ /^\// && $1 !~ /:$/ { print $1 }' | sort -u)
}

copy "$share"/*.bki "$share"/*.sql "$share"/*.sample "$share"/sql_features.txt "$share"/timezonesets \
    "$share"/tsearch_data "$share"/extension/plpgsql*
copy /usr/share/zoneinfo/UTC /usr/share/zoneinfo/GMT /usr/share/zoneinfo/Etc /usr/share/zoneinfo/Asia/Tokyo
copy /usr/lib/locale/C.utf8

# The server asks for the name of its user; the number is that of all containers of deploy/compose.yaml.
echo 'postgres:x:65532:65532::/var/lib/postgresql:/bin/sh' >"$root/etc/passwd"
echo 'postgres:x:65532:' >"$root/etc/group"
cp "$here/stand-in-entrypoint.sh" "$root/bin/docker-entrypoint.sh"
chmod 755 "$root/bin/docker-entrypoint.sh"
mkdir -p "$root/tmp" "$root/var/run/postgresql"
chmod 1777 "$root/tmp" "$root/var/run/postgresql"

cat >"$context/Dockerfile" <<DOCKERFILE
FROM scratch
COPY root /
# A new volume takes the owner of the folder that it is mounted on.
COPY --chown=65532:65532 state /var/lib/postgresql
COPY --chown=65532:65532 state /var/lib/postgresql/data
ENV PATH=$bin:/bin PGDATA=/var/lib/postgresql/data LANG=C.UTF-8
USER 65532:65532
STOPSIGNAL SIGINT
EXPOSE 5432
ENTRYPOINT ["docker-entrypoint.sh"]
CMD ["postgres"]
DOCKERFILE
# The legacy builder is what every engine has, and it needs no network.
DOCKER_BUILDKIT=0 docker build --quiet --tag "$tag" "$context" >/dev/null
echo "made $tag with PostgreSQL $major of Debian"
