# Builds the program from this source, and leaves an image that holds it, a C library and the folder for its data.
# packaging/image.sh puts a program that is built already in the place of the first stage.

# The version of rust-toolchain.toml: another one would make rustup fetch that toolchain.
FROM rust:1.95.0-slim-bookworm AS build
WORKDIR /source
COPY . .
# The commit for --version: the image of the compiler has no git.
ARG SWITCHBOARD_COMMIT=
RUN cargo build --release --locked --bin switchboard \
    && install -m 0755 target/release/switchboard /switchboard

FROM debian:bookworm-slim
RUN groupadd --system --gid 10001 switchboard \
    && useradd --system --uid 10001 --gid 10001 --home-dir /data --no-create-home --shell /usr/sbin/nologin switchboard \
    && install -d -o switchboard -g switchboard -m 0700 /data
COPY --from=build /switchboard /usr/local/bin/switchboard
ENV SWITCHBOARD_DATA=/data \
    SWITCHBOARD_ENV=prod \
    SWITCHBOARD_LISTEN=0.0.0.0:8080 \
    SWITCHBOARD_LOG_FORMAT=json
USER 10001:10001
VOLUME /data
EXPOSE 8080
# A large file from an older version may take minutes to migrate.
HEALTHCHECK --interval=30s --timeout=5s --start-period=15m --start-interval=2s --retries=3 CMD ["switchboard", "health"]
ENTRYPOINT ["switchboard"]
CMD ["serve"]
