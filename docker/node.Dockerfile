# The image of lockstep-node. Build it from the root of the repository:
#
#   docker build --file docker/node.Dockerfile --tag lockstep-node .
#
# BINARIES=source (the default) compiles the program here, which takes about 20 minutes the first time;
# BINARIES=prebuilt takes docker/prebuilt/lockstep-node, as `make images BINARIES=prebuilt` puts it there.
# The stage of the other one is not built, which takes BuildKit.
ARG BINARIES=source
ARG RUST_VERSION=1.95

FROM rust:${RUST_VERSION}-slim-bookworm AS source
RUN apt-get update \
    && apt-get install --yes --no-install-recommends g++ libclang-dev make \
    && rm -rf /var/lib/apt/lists/*
WORKDIR /src
COPY . .
# The target directory is kept between builds: RocksDB is compiled once. Paths in the program do not
# depend on where cargo keeps its registry.
RUN --mount=type=cache,target=/usr/local/cargo/registry,sharing=locked \
    --mount=type=cache,target=/target,sharing=locked \
    RUSTFLAGS="--remap-path-prefix=/usr/local/cargo=/cargo" CARGO_INCREMENTAL=0 CARGO_TARGET_DIR=/target \
        cargo build --release --locked --package lockstep-node --bin lockstep-node \
    && strip --strip-debug -o /lockstep-node /target/release/lockstep-node

FROM scratch AS prebuilt
COPY docker/prebuilt/lockstep-node /lockstep-node

FROM ${BINARIES} AS binaries

FROM debian:bookworm-slim AS files
ARG SOURCE_DATE_EPOCH=0
COPY docker/runtime-root /runtime-root
COPY --from=binaries /lockstep-node /root-of-image/usr/local/bin/lockstep-node
RUN /runtime-root /root-of-image lockstep-node

FROM scratch
ARG REVISION=unknown
ARG VERSION=0.1.0
LABEL org.opencontainers.image.title="lockstep-node" \
      org.opencontainers.image.description="A node of a Lockstep cluster: locks on Raft" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.source="https://github.com/lockstep-dev/lockstep" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.base.name="scratch"
COPY --from=files /root-of-image/ /
USER 65532:65532
# Who runs it says how it is reached (LOCKSTEP_CLIENT_ADVERTISE, LOCKSTEP_PEER_ADVERTISE) and who founds
# the cluster (LOCKSTEP_INITIAL_NODES).
ENV LOCKSTEP_DATA_DIR=/var/lib/lockstep/data \
    LOCKSTEP_CLIENT_LISTEN=0.0.0.0:7400 \
    LOCKSTEP_PEER_LISTEN=0.0.0.0:7401 \
    LOCKSTEP_HTTP_LISTEN=0.0.0.0:7402 \
    LOCKSTEP_LOG_FORMAT=json
VOLUME /var/lib/lockstep
EXPOSE 7400 7401 7402
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=5s --timeout=3s --start-period=60s --retries=3 \
    CMD ["/usr/local/bin/lockstep-node", "health"]
ENTRYPOINT ["/usr/local/bin/lockstep-node"]
CMD ["serve"]
