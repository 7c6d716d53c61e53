# The image of lockstep-operator. Build it from the root of the repository:
#
#   docker build --file docker/operator.Dockerfile --tag lockstep-operator .
#
# BINARIES=source (the default) compiles the program here, which takes some minutes the first time;
# BINARIES=prebuilt takes docker/prebuilt/lockstep-operator, as `make images BINARIES=prebuilt` puts it there.
# The stage of the other one is not built, which takes BuildKit.
ARG BINARIES=source
ARG RUST_VERSION=1.95

FROM rust:${RUST_VERSION}-slim-bookworm AS source
WORKDIR /src
COPY . .
# The target directory is kept between builds. Paths in the program do not depend on where cargo keeps
# its registry.
RUN --mount=type=cache,target=/usr/local/cargo/registry,sharing=locked \
    --mount=type=cache,target=/target,sharing=locked \
    RUSTFLAGS="--remap-path-prefix=/usr/local/cargo=/cargo" CARGO_INCREMENTAL=0 CARGO_TARGET_DIR=/target \
        cargo build --release --locked --manifest-path operator/Cargo.toml --bin lockstep-operator \
    && strip --strip-debug -o /lockstep-operator /target/release/lockstep-operator

FROM scratch AS prebuilt
COPY docker/prebuilt/lockstep-operator /lockstep-operator

FROM ${BINARIES} AS binaries

FROM debian:bookworm-slim AS files
ARG SOURCE_DATE_EPOCH=0
COPY docker/runtime-root /runtime-root
COPY --from=binaries /lockstep-operator /root-of-image/usr/local/bin/lockstep-operator
RUN /runtime-root /root-of-image lockstep-operator

FROM scratch
ARG REVISION=unknown
ARG VERSION=0.1.0
LABEL org.opencontainers.image.title="lockstep-operator" \
      org.opencontainers.image.description="The Kubernetes operator of Lockstep" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.source="https://github.com/lockstep-dev/lockstep" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.base.name="scratch"
COPY --from=files /root-of-image/ /
USER 65532:65532
EXPOSE 7403
STOPSIGNAL SIGTERM
ENTRYPOINT ["/usr/local/bin/lockstep-operator"]
CMD ["run"]
