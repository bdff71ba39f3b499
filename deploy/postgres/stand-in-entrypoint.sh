#!/bin/sh
# Entry point of the stand-in image: makes the data folder when there is none, then becomes the command. It knows PGDATA,
# POSTGRES_PASSWORD_FILE, POSTGRES_USER and POSTGRES_INITDB_ARGS as the official image does, and nothing else.
set -eu

if [ "${1:-}" = postgres ] && [ ! -s "$PGDATA/PG_VERSION" ]; then
    if [ ! -r "${POSTGRES_PASSWORD_FILE:-}" ]; then
        echo "POSTGRES_PASSWORD_FILE must name the file with the superuser's password" >&2
        exit 1
    fi
    # Several arguments may stand in the variable.
    # shellcheck disable=SC2086
    initdb --username="${POSTGRES_USER:-postgres}" --pwfile="$POSTGRES_PASSWORD_FILE" --auth=scram-sha-256 \
        ${POSTGRES_INITDB_ARGS:-}
fi
exec "$@"
