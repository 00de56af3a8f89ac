# Sourced by the scripts: messages, the cache folder, processes that are ours, free ports.
# shellcheck shell=bash

ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
LIB=$ROOT/scripts/lib
CACHE=${LEDGERHOOK_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/ledgerhook}
KAFKA_VERSION=4.3.1
REGISTRY_VERSION=3.0.9
export ROOT LIB CACHE KAFKA_VERSION REGISTRY_VERSION

say() { printf '%s\n' "$*" >&2; }
die() { printf '%s: %s\n' "$(basename "$0")" "$*" >&2; exit 1; }
have() { command -v "$1" >/dev/null 2>&1; }

# install_debian PACKAGE...: what is missing, where the system is Debian-like and we may; false otherwise.
install_debian() {
  have apt-get && [ "$(id -u)" = 0 ] || return 1
  say "installing: $*"
  local log; log=$(mktemp)
  if DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends "$@" >"$log" 2>&1 ||
     { apt-get update >"$log" 2>&1 && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends "$@" >>"$log" 2>&1; }; then
    rm -f "$log"; return 0
  fi
  tail -5 "$log" >&2; rm -f "$log"; return 1
}

# A process is named by pid and birth (start time), so that a pid given out anew is never taken for ours.
birth() {
  local s
  if [ -r "/proc/$1/stat" ]; then
    s=$(cat "/proc/$1/stat" 2>/dev/null) || return 1
    s=${s##*) }
    if [ "${s%% *}" = Z ]; then       # a zombie has ended, unless other threads of it still hold its ports
      set -- "/proc/$1/task"/*; [ $# -gt 1 ] || return 1
    fi
    # shellcheck disable=SC2086
    set -- $s; echo "${20}"
  else
    s=$(ps -o lstart= -p "$1" 2>/dev/null) && [ -n "$s" ] && echo "${s// /_}"
  fi
}
record() { echo "$2 $(birth "$2")" > "$1"; }                # record FILE PID
alive() { local p b; [ -f "$1" ] && read -r p b < "$1" && [ -n "${b:-}" ] && [ "$(birth "$p")" = "$b" ]; }   # alive FILE
pid_of() { local p _; read -r p _ < "$1"; echo "$p"; }
# end FILE [SIGNAL] [SECONDS]: asks, waits, then kills; only when FILE still names the process it was written for.
end() {
  local file=$1 sig=${2:-TERM} budget=${3:-20} until=$((SECONDS + ${3:-20}))
  if alive "$file"; then
    kill "-$sig" "$(pid_of "$file")" 2>/dev/null || true
    while alive "$file"; do
      if ((SECONDS >= until)); then say "still there after ${budget}s, killing it: $(basename "$file")"; kill -KILL "$(pid_of "$file")" 2>/dev/null || true; until=$((SECONDS + 5)); fi
      sleep 0.05
    done
  fi
  rm -f "$file"
}

# exec_detached LOG PIDFILE COMMAND...: in a session of its own, so that it outlives the caller and its terminal.
exec_detached() {
  local log=$1 pid=$2; shift 2
  if have setsid; then set -- setsid "$@"; fi
  ( exec "$@" 8>&- 9>&- ) > "$log" 2>&1 < /dev/null &     # 8 and 9 are our locks, which it must not keep
  record "$pid" $!
}

# taken PORT: whether anything listens on it, on any address.
taken() {
  local hex; hex=$(printf ':%04X' "$1")
  if [ -r /proc/net/tcp ]; then cat /proc/net/tcp /proc/net/tcp6 2>/dev/null | awk -v p="$hex" '$4 == "0A" && substr($2, length($2)-4) == p {f=1} END {exit !f}'
  else (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null; fi
}
# free_ports N: the first of N neighbouring free ports, below the range that the system gives to outgoing connections.
free_ports() {
  local n=$1 low=32768 p i try
  if [ -r /proc/sys/net/ipv4/ip_local_port_range ]; then read -r low _ < /proc/sys/net/ipv4/ip_local_port_range; fi
  ((low > 12000 + n)) || low=32768
  for ((try = 0; try < 200; try++)); do
    p=$((10000 + (RANDOM * 32768 + RANDOM) % (low - 10000 - n)))
    for ((i = 0; i < n; i++)); do if taken $((p + i)); then continue 2; fi; done
    echo "$p"; return 0
  done
  die "no $n neighbouring free ports found"
}
