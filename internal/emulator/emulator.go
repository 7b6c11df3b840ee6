// Package emulator is the part of Azure that hsmsweep needs, in one process: Service Bus over AMQP 1.0 (package
// servicebus/server on the rules in servicebus/broker), Resource Manager over TLS (arm), and the managed identity endpoint
// (identity) whose tokens ARM accepts. The real SDKs talk to it as they do to Azure; nothing in hsmsweep knows that it is
// not. It is imported by the commands demo and emulator and by tests only.
package emulator

import (
	"errors"
	"fmt"
	"log"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"time"

	"hsmsweep/internal/emulator/arm"
	"hsmsweep/internal/emulator/authority"
	"hsmsweep/internal/emulator/fault"
	"hsmsweep/internal/emulator/identity"
	"hsmsweep/internal/emulator/servicebus/admin"
	"hsmsweep/internal/emulator/servicebus/broker"
	"hsmsweep/internal/emulator/servicebus/rest"
	"hsmsweep/internal/emulator/servicebus/server"
)

// Audience is what a token for ARM must be for; it is Azure's own.
const Audience = "https://management.core.windows.net/"

// identityPath is where Container Apps have the endpoint.
const identityPath = "/msi/token"

// stateFile is in Options.StateDir.
const stateFile = "servicebus.db"

// Options configure an Emulator.
type Options struct {
	Entities broker.Config // of the namespace; broker.DefaultConfig has what hsmsweep's flags name by default
	StateDir string        // keeps what Service Bus holds, see broker.Open; "": nothing is kept. What ARM holds never is
	ARM      arm.Options   // Authorize is set here: tokens of the identity endpoint
	Log      *slog.Logger  // nil: none
	Faults   fault.Injector
}

// An Emulator is the services; Serve puts them on the network.
type Emulator struct {
	Broker     *broker.Broker
	ServiceBus *server.Server
	Admin      http.Handler // Service Bus over HTTP: its administration API, sends, and OperationsPath
	ARM        *arm.Simulator
	Identity   *identity.Endpoint
	Authority  *authority.Authority // of ARM's certificate, and of Service Bus's where a client begins with TLS

	http    []*http.Server
	running sync.WaitGroup
	faults  fault.Injector
	log     *slog.Logger
}

// New makes the services. Names are further DNS names or addresses for the certificate; localhost is always among them.
func New(o Options, names ...string) (*Emulator, error) {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	e := &Emulator{Identity: identity.New(), faults: o.Faults, log: o.Log}
	var err error
	if e.Authority, err = authority.New(names...); err != nil {
		return nil, err
	}
	if o.ARM.Authorize == nil {
		o.ARM.Authorize = func(token string) error { return e.Identity.Verify(token, Audience) }
	}
	e.ARM = arm.New(o.ARM)
	if e.Broker, err = newBroker(o); err != nil {
		return nil, err
	}
	e.Admin = e.withOperations(rest.New(e.Broker, admin.New(e.Broker)))
	e.ServiceBus = server.New(server.Options{Broker: e.Broker, TLS: e.Authority.ServerConfig(), HTTP: e.Admin, Logger: o.Log, Faults: o.Faults})
	return e, nil
}

// newBroker makes the namespace, or brings it back.
func newBroker(o Options) (*broker.Broker, error) {
	if o.StateDir == "" {
		return broker.New(o.Entities)
	}
	if err := os.MkdirAll(o.StateDir, 0o700); err != nil {
		return nil, fmt.Errorf("the folder for the state: %w", err)
	}
	return broker.Open(filepath.Join(o.StateDir, stateFile), server.Codec{}, o.Entities)
}

// Serve serves until Close: AMQP on the first listener (plain, or TLS where the client begins with it), ARM over TLS on the
// second, the identity endpoint over plain HTTP, as in a container, on the third.
func (e *Emulator) Serve(amqp, resourceManager, tokens net.Listener) {
	e.serve("Service Bus", func() error { return e.ServiceBus.Serve(amqp) })

	quiet := log.New(slogWriter{e.log}, "", 0)
	overTLS := &http.Server{Handler: e.faults.Handler(fault.ARM, e.ARM, e.ARM.Refuse), TLSConfig: e.Authority.ServerConfig(), ReadHeaderTimeout: time.Minute, ErrorLog: quiet}
	mux := http.NewServeMux()
	mux.Handle(identityPath, e.faults.Handler(fault.Identity, e.Identity, e.Identity.Refuse))
	plain := &http.Server{Handler: mux, ReadHeaderTimeout: time.Minute, ErrorLog: quiet}
	e.http = append(e.http, overTLS, plain)
	e.serve("ARM", func() error { return overTLS.ServeTLS(resourceManager, "", "") })
	e.serve("the identity endpoint", func() error { return plain.Serve(tokens) })
}

// Loopback listens on three free ports of the loopback interface, for Serve.
func Loopback() (listeners [3]net.Listener, err error) {
	for i := range listeners {
		if listeners[i], err = net.Listen("tcp", "127.0.0.1:0"); err != nil {
			return listeners, err
		}
	}
	return listeners, nil
}

// ServeAdmin serves Admin until Close, plain, or over TLS where the client begins with it.
func (e *Emulator) ServeAdmin(l net.Listener) {
	s := &http.Server{Handler: e.Admin, ReadHeaderTimeout: time.Minute, ErrorLog: log.New(slogWriter{e.log}, "", 0)}
	e.http = append(e.http, s)
	e.serve("Service Bus administration", func() error { return s.Serve(admin.EitherTLS(l, e.Authority.ServerConfig())) })
}

func (e *Emulator) serve(what string, serve func() error) {
	e.running.Go(func() {
		if err := serve(); err != nil && !errors.Is(err, http.ErrServerClosed) {
			e.log.Error(what+" is not served any more", "error", err)
		}
	})
}

// Close ends everything at once and waits for it.
func (e *Emulator) Close() error {
	faults := []error{e.ServiceBus.Close()}
	for _, s := range e.http {
		faults = append(faults, s.Close())
	}
	e.running.Wait()
	faults = append(faults, e.Broker.Sync())
	e.Broker.Close()
	return errors.Join(faults...)
}

// ConnectionString reaches Service Bus at an address, in plain text. It has a signature rather than a key, so that clients
// have no token to refresh.
func ConnectionString(addr string) string {
	return fmt.Sprintf("Endpoint=sb://%s;SharedAccessSignature=SharedAccessSignature sr=emulator&sig=emulator&se=4102444800&skn=emulator;UseDevelopmentEmulator=true", addr)
}

// IdentityURL is the value for IDENTITY_ENDPOINT at an address.
func IdentityURL(addr string) string { return "http://" + addr + identityPath }

// slogWriter takes what net/http has to say.
type slogWriter struct{ log *slog.Logger }

func (w slogWriter) Write(line []byte) (int, error) {
	w.log.Debug("HTTP server", "said", string(line))
	return len(line), nil
}
