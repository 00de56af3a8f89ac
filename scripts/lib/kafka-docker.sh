# Sourced by scripts/kafka: broker and registry as containers of docker-compose.yml.
# shellcheck shell=bash

engine_answers() { have docker && timeout 20 docker info >/dev/null 2>&1; }
here() { docker image inspect "$1" >/dev/null 2>&1; }
# The user's choice; otherwise the public image, or the one of scripts/kafka-image where only that is here.
images() {
  KAFKA_IMAGE=${LEDGERHOOK_KAFKA_IMAGE:-} REGISTRY_IMAGE=${LEDGERHOOK_REGISTRY_IMAGE:-}
  local own=ledgerhook/kafka:$KAFKA_VERSION public=apache/kafka:$KAFKA_VERSION
  [ -n "$KAFKA_IMAGE" ] || if ! here "$public" && here "$own"; then KAFKA_IMAGE=$own; else KAFKA_IMAGE=$public; fi
  own=ledgerhook/registry:$REGISTRY_VERSION public=apicurio/apicurio-registry:$REGISTRY_VERSION
  [ -n "$REGISTRY_IMAGE" ] || if ! here "$public" && here "$own"; then REGISTRY_IMAGE=$own; else REGISTRY_IMAGE=$public; fi
}
images_present() { images; here "$KAFKA_IMAGE" && here "$REGISTRY_IMAGE"; }

# One compose project for each DIR, so that several live side by side.
compose() {
  local project; project=ledgerhook-$(printf %s "$DIR" | cksum | cut -d' ' -f1)
  local plugin=(docker compose)
  docker compose version >/dev/null 2>&1 || plugin=(docker-compose)
  have "${plugin[0]}" || die "docker compose is missing: run scripts/engine, or set LEDGERHOOK_KAFKA=jvm"
  images
  if [ -f "$DIR/ports" ]; then read -r LEDGERHOOK_KAFKA_PORT LEDGERHOOK_REGISTRY_PORT _ < "$DIR/ports"; fi
  LEDGERHOOK_KAFKA_IMAGE=$KAFKA_IMAGE LEDGERHOOK_REGISTRY_IMAGE=$REGISTRY_IMAGE \
    LEDGERHOOK_KAFKA_PORT=$LEDGERHOOK_KAFKA_PORT LEDGERHOOK_REGISTRY_PORT=$LEDGERHOOK_REGISTRY_PORT \
    "${plugin[@]}" -p "$project" -f "$ROOT/docker-compose.yml" "$@" 8>&-
}

up_docker() {
  [ "$NODES" = 1 ] || die "--nodes $NODES needs the jvm way: set LEDGERHOOK_KAFKA=jvm"
  engine_answers || die "no container engine answers: run scripts/engine, or set LEDGERHOOK_KAFKA=jvm"
  local image
  images
  for image in "$KAFKA_IMAGE" "$REGISTRY_IMAGE"; do
    here "$image" || docker pull -q "$image" >/dev/null 2>&1 ||
      die "image $image is neither here nor to be pulled: run scripts/kafka-image and name its images (--names), or set LEDGERHOOK_KAFKA=jvm"
  done
  local log=$DIR/compose.log
  compose up -d --no-build kafka registry > "$log" 2>&1 || { tail -15 "$log" >&2; die "the containers did not start (log: $log)"; }
  local until=$((SECONDS + ${LEDGERHOOK_START_TIMEOUT:-120}))
  until registry_ready "$url"; do
    ((SECONDS < until)) || { compose logs --tail=15 registry >&2; die "the registry's container was not ready in time"; }
    sleep 0.2
  done
  full_transitive "$url"
}
down_docker() {
  local log=$DIR/compose.log
  if [ -n "$PURGE" ]; then compose down -v -t 0 > "$log" 2>&1; else compose stop > "$log" 2>&1; fi ||
    { tail -5 "$log" >&2; die "the containers could not be stopped (log: $log)"; }
}
status_docker() { compose ps kafka registry; cat "$DIR/servers.env" 2>/dev/null || true; }
only_one() { [ "${1:-}" = 1 ] || die "which broker? in containers there is only broker 1"; }
kill_docker() { only_one "${1:-}"; compose kill kafka 2>/dev/null; }
restart_docker() {
  only_one "${1:-}"
  compose up -d --no-build kafka > "$DIR/compose.log" 2>&1 || { tail -5 "$DIR/compose.log" >&2; die "the broker's container did not start"; }
  local until=$((SECONDS + ${LEDGERHOOK_START_TIMEOUT:-120}))
  until compose exec -T kafka bash -c 'exec 3<>/dev/tcp/127.0.0.1/9092' >/dev/null 2>&1; do
    ((SECONDS < until)) || die "the broker's container was not ready in time"
    sleep 0.5
  done
}
tool_docker() {
  local class=${1:?tool needs a class, e.g. TopicCommand}; shift
  case $class in *.*) ;; *) class=org.apache.kafka.tools.$class ;; esac
  compose exec -T kafka /opt/kafka/bin/kafka-run-class.sh "$class" --bootstrap-server kafka:19092 "$@"
}
