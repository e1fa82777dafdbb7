#!/bin/sh
# mpirun.sh N COMMAND...: starts N ranks on this machine, however few its cores are. Exits 77 where there is no mpirun.
command -v mpirun >/dev/null || exit 77
count=$1
shift
case $(mpirun --version 2>/dev/null) in
*"Open MPI"*) exec mpirun --allow-run-as-root --bind-to none --oversubscribe -n "$count" "$@" ;;
*) exec mpirun -n "$count" "$@" ;;
esac
