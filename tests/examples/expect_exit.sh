#!/bin/sh
# expect_exit.sh STATUS TEXT COMMAND...: the command ends with this status, and what it prints contains the text.
status=$1 text=$2
shift 2
printed=$("$@" 2>&1)
got=$?
printf '%s\n' "$printed"
[ "$got" = "$status" ] || { echo "exit status $got, expected $status"; exit 1; }
printf '%s' "$printed" | grep -qF -e "$text" || { echo "expected: $text"; exit 1; }
