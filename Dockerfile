# The daemon and its tools in two stages: built with the distribution's packages, run as a user without rights on a bare base.
# tests/image runs these very steps in a fresh Debian folder. The programs are those of every build: ckptd, ckptctl, ckptutil.
# The client library is not in the image, it belongs to the trainer's; nor are the benchmark and the example, they belong to the source tree.
FROM debian:12 AS build
WORKDIR /src
COPY deploy/packages.txt deploy/install-packages.sh deploy/
RUN deploy/install-packages.sh build
COPY . .
RUN cmake --preset image
RUN cmake --build --preset image
RUN cmake --install build/image --prefix /opt/ckptd --strip --component programs

FROM debian:12
COPY deploy/packages.txt deploy/install-packages.sh /opt/install/
RUN /opt/install/install-packages.sh runtime
RUN groupadd --gid 10001 ckptd && useradd --uid 10001 --gid 10001 --no-create-home --home-dir /var/lib/ckptd --shell /usr/sbin/nologin ckptd
RUN install -d -o ckptd -g ckptd -m 0750 /var/lib/ckptd /run/ckptd
COPY --from=build /opt/ckptd/bin /usr/local/bin
USER ckptd
ENV CKPTD_DATA_DIR=/var/lib/ckptd CKPTD_SOCKET=/run/ckptd/ckptd.sock
ENTRYPOINT ["/usr/local/bin/ckptd"]
