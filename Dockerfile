# The base images are arguments, for those who mirror or harden theirs. The result is one static binary, run as nobody.
ARG GO_IMAGE=golang:1.26
ARG BASE_IMAGE=scratch

FROM ${GO_IMAGE} AS build
WORKDIR /src
COPY go.mod go.sum ./
RUN go mod download
COPY . .
ARG VERSION=dev
ARG COMMIT=unknown
RUN CGO_ENABLED=0 go build -trimpath -ldflags "-s -w -X main.version=${VERSION} -X main.commit=${COMMIT}" -o /hsmsweep ./cmd/hsmsweep

FROM ${BASE_IMAGE}
# An empty base has no certificate authorities, without which neither ARM nor Service Bus can be trusted.
COPY --from=build /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/
COPY --from=build /hsmsweep /hsmsweep
# By number, so that a cluster that insists on it can see that this is not root.
USER 65532:65532
EXPOSE 8080
ENTRYPOINT ["/hsmsweep"]
CMD ["run"]
