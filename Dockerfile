# ledgerhook as an image: built on Debian, run on Debian, as a user without rights.
#   docker build -t ledgerhook:local .
# Another mirror or a hardened base: --build-arg BUILD_BASE=... --build-arg RUN_BASE=... (glibc, of one Debian release).
ARG BUILD_BASE=rust:1-bookworm
ARG RUN_BASE=debian:bookworm-slim

FROM ${BUILD_BASE} AS build
RUN apt-get update \
 && apt-get install -y --no-install-recommends build-essential pkg-config libssl-dev \
 && rm -rf /var/lib/apt/lists/*
WORKDIR /src
COPY . .
RUN cargo build --profile dist --locked && install -D target/dist/ledgerhook /out/ledgerhook

FROM ${RUN_BASE}
RUN apt-get update \
 && apt-get install -y --no-install-recommends ca-certificates libssl3 \
 && rm -rf /var/lib/apt/lists/* \
 && useradd --system --uid 10001 --home-dir /var/lib/ledgerhook --create-home ledgerhook
COPY --from=build /out/ledgerhook /usr/local/bin/ledgerhook
USER ledgerhook
WORKDIR /etc/ledgerhook
# Spool and state: a receiver's acknowledged events may live here alone, so keep it on a volume.
VOLUME /var/lib/ledgerhook
EXPOSE 8080 8090
ENTRYPOINT ["ledgerhook"]
CMD ["run"]
