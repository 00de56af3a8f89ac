# Sourced by scripts/kafka and scripts/kafka-image: the Java runtime, and the jars of broker and registry from Maven.
# shellcheck shell=bash

JAVA=${JAVA_HOME:+$JAVA_HOME/bin/}java
JARS=$CACHE/kafka-$KAFKA_VERSION
REGISTRY_HOME=$CACHE/registry-$REGISTRY_VERSION

need_java() {
  have "$JAVA" || die "java (17 or newer) is missing: install it (Debian: apt-get install openjdk-17-jdk-headless), or set LEDGERHOOK_KAFKA=external"
  local v; v=$("$JAVA" -version 2>&1 | sed -n 's/.*version "\([0-9]*\).*/\1/p' | head -1)
  [ "${v:-0}" -ge 17 ] || die "java is version ${v:-unknown}, 17 or newer is needed: install it, or point JAVA_HOME at it"
  # The archive of loaded classes fits one runtime and one class path only.
  ARCHIVE=$JARS/classes-$("$JAVA" -version 2>&1 | cksum | cut -d' ' -f1).jsa
}

maven() {
  have mvn || die "maven is missing: install it (Debian: apt-get install maven), or set LEDGERHOOK_KAFKA=external"
  local log; log=$(mktemp)
  if ! mvn -B -q -ntp "-Dmaven.repo.local=$CACHE/m2" "$@" > "$log" 2>&1; then
    grep -m3 ERROR "$log" | cut -c1-500 >&2; rm -f "$log"; return 1
  fi
  rm -f "$log"
}
# Fetched once; the lock keeps two callers from filling the same folder, the rename keeps a half one from being used.
fetch() {
  local plugin=org.apache.maven.plugins:maven-dependency-plugin:3.8.1
  mkdir -p "$CACHE"
  exec 9> "$CACHE/fetch.lock"; flock 9
  if [ ! -d "$JARS" ]; then
    say "fetching Kafka $KAFKA_VERSION"
    rm -rf "$JARS.part"
    maven -f "$LIB/kafka-pom.xml" "-Dkafka.version=$KAFKA_VERSION" "$plugin:copy-dependencies" -DincludeScope=runtime "-DoutputDirectory=$JARS.part/libs" ||
      die "Maven could not fetch Kafka $KAFKA_VERSION (its message is above)"
    mv "$JARS.part" "$JARS"
  fi
  if [ ! -d "$REGISTRY_HOME" ]; then
    say "fetching Apicurio Registry $REGISTRY_VERSION"
    rm -rf "$REGISTRY_HOME.part"; mkdir -p "$REGISTRY_HOME.part"
    # The archive holds everything, and its descriptor's parent is not published: only this old plugin goes on without it.
    maven org.apache.maven.plugins:maven-dependency-plugin:2.8:get -Dtransitive=false "-Dartifact=io.apicurio:apicurio-registry-app:$REGISTRY_VERSION:tar.gz:all" ||
      die "Maven could not fetch Apicurio Registry $REGISTRY_VERSION (its message is above)"
    tar -xzf "$CACHE/m2/io/apicurio/apicurio-registry-app/$REGISTRY_VERSION/apicurio-registry-app-$REGISTRY_VERSION-all.tar.gz" -C "$REGISTRY_HOME.part"
    mv "$REGISTRY_HOME.part" "$REGISTRY_HOME"
  fi
  rm -rf "$CACHE/m2"
  exec 9>&-
}
