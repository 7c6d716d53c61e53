# The load and its checker, for the scenarios on Docker Compose. Its program is always built outside.
FROM debian:bookworm-slim AS files
COPY docker/runtime-root /runtime-root
COPY docker/prebuilt/lockstep-drill /root-of-image/usr/local/bin/lockstep-drill
RUN /runtime-root /root-of-image lockstep-drill

FROM scratch
COPY --from=files /root-of-image/ /
USER 65532:65532
STOPSIGNAL SIGTERM
ENTRYPOINT ["/usr/local/bin/lockstep-drill"]
