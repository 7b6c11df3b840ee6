# One static binary, run as nobody, with nothing beside it: no shell, nothing that is written to. The images are arguments, for those
# who mirror or harden theirs; by digest (GO_IMAGE=…@sha256:…) the same commit gives the same binary, bit for bit, anywhere.
#   docker build --build-arg VERSION=v1.2.3 --build-arg COMMIT=$(git rev-parse HEAD) -t hsmsweep:v1.2.3 .
#   docker buildx build --platform linux/amd64,linux/arm64 …    # Go compiles for the other machine; nothing is emulated
ARG GO_IMAGE=golang:1.26
ARG BASE_IMAGE=scratch

# Builders without BuildKit know no BUILDPLATFORM.
FROM --platform=${BUILDPLATFORM:-linux/amd64} ${GO_IMAGE} AS build
WORKDIR /src
COPY go.mod go.sum ./
RUN go mod download && go mod verify
COPY . .
ARG VERSION=dev
ARG COMMIT=unknown
ARG TARGETOS
ARG TARGETARCH
RUN CGO_ENABLED=0 GOOS=${TARGETOS} GOARCH=${TARGETARCH} go build -trimpath -buildvcs=false \
      -ldflags "-s -w -X main.version=${VERSION} -X main.commit=${COMMIT}" -o /out/hsmsweep ./cmd/hsmsweep && \
    # What is in it: the toolchain, and each module with its version and hash. The binary tells the same of itself.
    go version -m /out/hsmsweep > /out/hsmsweep.modules.txt

FROM ${BASE_IMAGE}
ARG VERSION=dev
ARG COMMIT=unknown
LABEL org.opencontainers.image.title="hsmsweep" \
      org.opencontainers.image.description="Deletes dead private endpoint connections of Azure Managed HSM pools" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${COMMIT}"
# An empty base has no certificate authorities, without which neither ARM nor Service Bus can be trusted.
COPY --from=build /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/
COPY --from=build /out/ /
# By number, so that a cluster that insists on it can see that this is not root.
USER 65532:65532
EXPOSE 8080
# Whoever stops it must wait longer than --shutdown-grace: docker stop --time 40.
STOPSIGNAL SIGTERM
ENTRYPOINT ["/hsmsweep"]
CMD ["run"]
