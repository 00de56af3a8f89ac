# Sourced by scripts/kafka: brokers and a schema registry as plain Java processes, out of Maven jars.
# shellcheck shell=bash
# Layout of DIR: cluster.id, ports, node<i>/{server.properties,data,server.log,pid}, registry/{db,log,pid}.

# One fixed order: the archive of loaded classes is void if the class path changes.
class_path() { local IFS=: jars=("$JARS"/libs/*.jar); echo "${jars[*]}"; }
# Serial collector, first compiler only, archived classes: a third of the CPU that a start takes by default.
java_flags() {
  # The first compiler alone starts fastest and is right for tests; a measurement wants the one that production runs.
  local jit=-XX:TieredStopAtLevel=1; [ "${LEDGERHOOK_KAFKA_JIT:-quick}" = quick ] || jit=-XX:+TieredCompilation
  echo "-Xms64m -Xmx${1:-512m} -XX:+UseSerialGC $jit -XX:-UsePerfData -Djava.awt.headless=true"
}
kafka_java() {  # kafka_java [JVM FLAG...] CLASS ARGS...
  # shellcheck disable=SC2046
  exec "$JAVA" $(java_flags) -Dlog4j2.configurationFile="$LIB/log4j2.properties" -cp "$(class_path)" "$@"
}
archive_flags() { if [ -s "$ARCHIVE" ]; then echo "-Xshare:auto -XX:SharedArchiveFile=$ARCHIVE"; fi; }

properties() {  # properties NODE COUNT FIRST_PORT
  local id=$1 n=$2 port=$3 voters="" i rf=$(($2 < 3 ? $2 : 3))
  for ((i = 0; i < n; i++)); do voters+="${voters:+,}$((i + 1))@127.0.0.1:$((port + 2 * i + 1))"; done
  cat <<P
process.roles=broker,controller
node.id=$id
controller.quorum.voters=$voters
controller.listener.names=CONTROLLER
listeners=PLAINTEXT://127.0.0.1:$((port + 2 * (id - 1))),CONTROLLER://127.0.0.1:$((port + 2 * (id - 1) + 1))
advertised.listeners=PLAINTEXT://127.0.0.1:$((port + 2 * (id - 1)))
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT
inter.broker.listener.name=PLAINTEXT
log.dirs=$DIR/node$id/data
auto.create.topics.enable=false
num.partitions=1
default.replication.factor=$rf
# A body at its limit (1 MiB) fits as record, quarantine and dead letter; the slack is for framing.
message.max.bytes=4259840
replica.fetch.max.bytes=4259840
offsets.topic.replication.factor=$rf
offsets.topic.num.partitions=4
transaction.state.log.replication.factor=$rf
transaction.state.log.min.isr=$((rf > 1 ? 2 : 1))
transaction.state.log.num.partitions=4
share.coordinator.state.topic.replication.factor=$rf
share.coordinator.state.topic.min.isr=1
group.initial.rebalance.delay.ms=0
num.network.threads=2
num.io.threads=2
log.cleaner.dedupe.buffer.size=4194304
# A killed node may come back as soon as the controller has forgotten its old registration.
controlled.shutdown.enable=true
broker.heartbeat.interval.ms=500
broker.session.timeout.ms=3000
P
}

# In a session of its own, so that it outlives the caller's terminal. `exec` keeps the pid.
launch() {  # launch NODE
  local d=$DIR/node$1 archive=() port
  for port in $(grep -m1 '^listeners=' "$d/server.properties" | grep -oE '[0-9]+(,|$)' | tr -d ,); do
    if taken "$port"; then die "port $port of broker $1 is taken by somebody else (ports are kept in $DIR/ports)"; fi
  done
  if [ -s "$ARCHIVE" ]; then archive=(-Xshare:auto "-XX:SharedArchiveFile=$ARCHIVE"); else archive=(-XX:+RecordDynamicDumpInfo); fi
  # shellcheck disable=SC2046
  exec_detached "$d/server.log" "$d/pid" "$JAVA" $(java_flags) "${archive[@]}" \
    -Dlog4j2.configurationFile="$LIB/log4j2.properties" -cp "$(class_path)" kafka.Kafka "$d/server.properties"
}
# wait_for NAME PIDFILE LOG COMMAND...: until COMMAND succeeds; a busy machine takes several times longer than an idle one.
wait_for() {
  local name=$1 pid=$2 log=$3 t=${LEDGERHOOK_START_TIMEOUT:-120}; shift 3
  local until=$((SECONDS + t))
  until "$@" >/dev/null 2>&1; do
    alive "$pid" || { tail -15 "$log" >&2; die "$name ended while starting (log: $log)"; }
    ((SECONDS < until)) || { tail -15 "$log" >&2; die "$name was not ready within ${t}s (log: $log)"; }
    sleep 0.1
  done
}
node_ready() { grep -q 'Kafka Server started' "$DIR/node$1/server.log"; }

start_brokers() {  # start_brokers COUNT FIRST_PORT
  local n=$1 port=$2 i p formats=()
  # A cluster id is 16 random bytes in URL-safe base64.
  [ -f "$DIR/cluster.id" ] || echo "A$(head -c 16 /dev/urandom | base64 | tr '+/' '-_' | cut -c2-22)" > "$DIR/cluster.id"
  for ((i = 1; i <= n; i++)); do
    mkdir -p "$DIR/node$i"; properties "$i" "$n" "$port" > "$DIR/node$i/server.properties"
    [ -f "$DIR/node$i/data/meta.properties" ] && continue
    ( kafka_java kafka.tools.StorageTool format -t "$(cat "$DIR/cluster.id")" -c "$DIR/node$i/server.properties" ) > "$DIR/node$i/format.log" 2>&1 & formats+=($!)
  done
  for p in "${formats[@]}"; do wait "$p" || { tail -15 "$DIR"/node*/format.log >&2; die "formatting a node's storage failed"; }; done
  for ((i = 1; i <= n; i++)); do alive "$DIR/node$i/pid" || launch "$i"; done
  for ((i = 1; i <= n; i++)); do wait_for "broker $i" "$DIR/node$i/pid" "$DIR/node$i/server.log" node_ready "$i"; done
  # The first broker ever started here tells its loaded classes to the next ones: a third off their start.
  if [ ! -s "$ARCHIVE" ] && have jcmd; then
    if jcmd "$(pid_of "$DIR/node1/pid")" VM.cds dynamic_dump "$ARCHIVE.part" > /dev/null 2>&1; then mv -f "$ARCHIVE.part" "$ARCHIVE"; else rm -f "$ARCHIVE.part"; fi
  fi
}

registry_ready() { curl -sf -o /dev/null --max-time 5 "$1/subjects"; }
start_registry() {  # start_registry PORT
  local d=$DIR/registry url=http://127.0.0.1:$1/apis/ccompat/v7
  mkdir -p "$d"
  if ! alive "$d/pid"; then
    if taken "$1"; then die "port $1 of the registry is taken by somebody else (ports are kept in $DIR/ports)"; fi
    # The store is a file: schema ids must outlive a restart, since the records on the broker name them.
    # shellcheck disable=SC2046
    QUARKUS_HTTP_HOST=127.0.0.1 QUARKUS_HTTP_PORT=$1 APICURIO_DATASOURCE_URL="jdbc:h2:file:$d/db" \
      exec_detached "$d/server.log" "$d/pid" "$JAVA" $(java_flags 256m) -jar "$REGISTRY_HOME"/*-runner.jar
  fi
  wait_for "the schema registry" "$d/pid" "$d/server.log" registry_ready "$url"
  full_transitive "$url"
}

up_jvm() {
  need_java; fetch
  # The two start side by side: each waits mostly for its own classes.
  start_registry "$REGISTRY_PORT" & local registry=$!
  start_brokers "$NODES" "$KAFKA_PORT"
  wait "$registry" || exit 1
}
down_jvm() {
  local f signal=TERM
  [ -z "$PURGE" ] || signal=KILL                 # a graceful stop is for data that will be read again
  for f in "$DIR"/node*/pid "$DIR/registry/pid"; do [ ! -f "$f" ] || end "$f" "$signal" 20 & done
  wait
}
status_jvm() {
  local f state
  for f in "$DIR"/node* "$DIR/registry"; do
    [ -d "$f" ] || continue
    if alive "$f/pid"; then state="up, pid $(pid_of "$f/pid"), $(awk '/VmRSS/ {print int($2/1024) " MiB"}' "/proc/$(pid_of "$f/pid")/status" 2>/dev/null)"; else state=down; fi
    echo "$(basename "$f"): $state"
  done
  cat "$DIR/servers.env" 2>/dev/null || true
}
node_of() { [ -n "${1:-}" ] || die "which broker?"; [ -d "$DIR/node$1" ] || die "there is no broker $1 in $DIR"; }
kill_jvm() { node_of "${1:-}"; end "$DIR/node$1/pid" KILL; }
restart_jvm() {
  node_of "${1:-}"; need_java
  alive "$DIR/node$1/pid" || launch "$1"
  wait_for "broker $1" "$DIR/node$1/pid" "$DIR/node$1/server.log" node_ready "$1"
}
tool_jvm() {
  need_java
  local class=${1:?tool needs a class, e.g. TopicCommand}; shift
  case $class in *.*) ;; *) class=org.apache.kafka.tools.$class ;; esac
  export KAFKA_LOG_LEVEL=${KAFKA_LOG_LEVEL:-ERROR}
  kafka_java "$class" --bootstrap-server "$(sed -n 's/^KAFKA_BOOTSTRAP=//p' "$DIR/servers.env")" "$@"
}
