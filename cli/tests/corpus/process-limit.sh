#!/bin/bash
#SBATCH --output=bomb.txt
# as nobody, whom the limit binds: 2^6 processes that want to be there at a time
setpriv --reuid=65534 --clear-groups /bin/sh -c '
bomb() {
    [ "$1" -gt 0 ] || { sleep 2; return; }
    bomb $(($1 - 1)) &
    bomb $(($1 - 1)) &
    wait
}
bomb 6' 2> refused.txt
grep -c -i fork refused.txt > /dev/null && echo "some were refused"
ulimit -u
