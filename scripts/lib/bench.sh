# Sourced by the benchmarks of benches/e2e: what processes cost, sums, tables, conditions.
# shellcheck shell=bash

[ -r /proc/self/stat ] || die "what a process costs is read from /proc, which is not here"
TICKS=$(getconf CLK_TCK)

fetch() { curl -sf --max-time 10 "$@"; }
calc() { awk "BEGIN { printf \"${2:-%.1f}\", $1 }"; }
now() { echo "$EPOCHREALTIME"; }
median() { sort -g | awk '{ v[NR] = $1 } END { print v[int((NR + 1) / 2)] }'; }

# cpu PID: seconds of CPU so far, user and system; 0 for a process that is not known.
cpu() { if [ -n "$1" ]; then awk -v t="$TICKS" '{ sub(/.*\) /, ""); print ($12 + $13) / t }' "/proc/$1/stat"; else echo 0; fi; }
# busy: the same of all processes.
busy() { awk -v t="$TICKS" '$1 == "cpu" { print ($2 + $3 + $4 + $7 + $8) / t }' /proc/stat; }
reset_peak() { local p; for p in "$@"; do echo 5 > "/proc/$p/clear_refs" 2>/dev/null || true; done; }
peak_mib() { if [ -n "$1" ]; then awk '/^VmHWM/ { print int($2 / 1024) }' "/proc/$1/status"; else echo -; fi; }
# broker_of DIR: the pid of the one broker that scripts/kafka started there; nothing where it is no process of ours.
broker_of() { if [ -f "$1/node1/pid" ]; then pid_of "$1/node1/pid"; fi; }

# table: lines of cells between "|", the first one the head, as Markdown.
table() { awk -F'|' '{ for (i = 1; i <= NF; i++) { c[NR, i] = $i; if (length($i) > w[i]) w[i] = length($i) } n = NF }
  END { for (r = 1; r <= NR; r++) { s = "|"; for (i = 1; i <= n; i++) s = s sprintf(i == 1 ? " %-*s |" : " %*s |", w[i], c[r, i]); print s
    if (r == 1) { s = "|"; for (i = 1; i <= n; i++) { d = sprintf("%*s", w[i] + (i == 1 ? 2 : 1), ""); gsub(/ /, "-", d); s = s d (i == 1 ? "|" : ":|") }; print s } } }'; }

load() { cut -d' ' -f1-3 /proc/loadavg; }
# machine LOAD: one line; LOAD is the load before the benchmark.
machine() {
  echo "$(date -u +%F), $(nproc) cores of $(sed -n 's/^model name[^:]*: //p' /proc/cpuinfo | head -1), $(awk '/^MemTotal/ { printf "%.0f GiB", $2 / 1048576 }' /proc/meminfo), Linux $(uname -r); load before it: $1"
}
