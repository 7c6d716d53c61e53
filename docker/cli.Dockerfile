# The image of lockstepctl. Build it from the root of the repository:
#
#   docker build --file docker/cli.Dockerfile --tag lockstep-cli .
#
# BINARIES=source (the default) compiles the program here, which takes about 20 minutes the first time;
# BINARIES=prebuilt takes docker/prebuilt/lockstepctl, as `make images BINARIES=prebuilt` puts it there.
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
        cargo build --release --locked --package lockstep-cli --bin lockstepctl \
    && strip --strip-debug -o /lockstepctl /target/release/lockstepctl

FROM scratch AS prebuilt
COPY docker/prebuilt/lockstepctl /lockstepctl

FROM ${BINARIES} AS binaries

FROM debian:bookworm-slim AS files
ARG SOURCE_DATE_EPOCH=0
COPY docker/runtime-root /runtime-root
COPY --from=binaries /lockstepctl /root-of-image/usr/local/bin/lockstepctl
RUN /runtime-root /root-of-image lockstepctl

FROM scratch
ARG REVISION=unknown
ARG VERSION=0.1.0
LABEL org.opencontainers.image.title="lockstepctl" \
      org.opencontainers.image.description="The command line of Lockstep" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.source="https://github.com/lockstep-dev/lockstep" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.base.name="scratch"
COPY --from=files /root-of-image/ /
USER 65532:65532
# Found under its name, so that `lock run NAME -- lockstepctl ...` works.
ENV PATH=/usr/local/bin
STOPSIGNAL SIGTERM
ENTRYPOINT ["/usr/local/bin/lockstepctl"]
CMD ["--help"]
