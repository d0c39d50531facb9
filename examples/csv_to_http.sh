#!/bin/sh
# From a CSV file to recommendations over HTTP, by the names in the file.
set -e
export BOTIFY_DATASET=plays BOTIFY_TOPIC_PREFIX=plays
columns=user=listener,item=song,artist=artist,time=at,played=heard
botify data import csv "${1:-examples/plays.csv}" --to plays --map "$columns"
botify up
botify data publish plays
for song in Stronger "Hey Ya!" Halo; do
    curl -sS "http://127.0.0.1:${BOTIFY_GATEWAY_PORT:-8000}/next/alice" -H 'content-type: application/json' \
        -d "{\"track\": \"$song\", \"time\": 1.0}" -w '\n'
done
