// Package server speaks AMQP 1.0 as Azure Service Bus does, for the entities of
// a broker: connections, $cbs, links, settlement and $management, as the Azure
// SDKs need them.
//
// Each connection has two goroutines. The reader decodes frames and carries out
// what they ask for; it owns sessions and links. The writer owns everything that
// is sent: delivery ids, windows, and deliveries that wait for one. The reader and
// the broker hand it work through a queue and never wait for it, so a client that
// does not read delays nobody else.
//
// Message sessions, transactions and rules are refused with the service's error
// conditions.
package server

import (
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"strings"
	"sync"
	"syscall"
	"time"

	"hsmsweep/internal/emulator/fault"
	"hsmsweep/internal/emulator/servicebus/broker"
)

const (
	defaultIdleTimeout = 2 * time.Minute
	acceptPause        = 50 * time.Millisecond // when file descriptors have run out
)

// Options configures a Server.
type Options struct {
	Broker *broker.Broker
	// TLS, if set, serves connections that begin with a TLS handshake; others are served in plain text.
	TLS *tls.Config
	// HTTP, if set, serves connections that begin with HTTP: the administration API, and sends.
	HTTP http.Handler
	// IdleTimeout is announced to clients; twice of it without a byte ends a connection. Default 2 minutes.
	IdleTimeout time.Duration
	// Authorize judges the token that a client puts for an audience such as
	// "amqps://host/queue". If it is set, links to other entities are refused. nil accepts everything.
	Authorize func(audience, tokenType, token string) error
	Logger    *slog.Logger // nil = none
	Faults    fault.Injector
}

// A Server serves AMQP connections.
type Server struct {
	options Options
	running sync.WaitGroup

	mu        sync.Mutex
	closed    bool
	listeners map[net.Listener]bool
	conns     map[net.Conn]bool
	executed  map[Operation]int
}

// An Operation is something that the server did for a client, or a delivery that it began.
type Operation struct {
	Name   string // send, settle, attach, deliver, put-token or a $management operation such as com.microsoft:renew-lock
	Entity string // its path
}

// New returns a server for the broker's entities.
func New(o Options) *Server {
	if o.IdleTimeout <= 0 {
		o.IdleTimeout = defaultIdleTimeout
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	return &Server{
		options:   o,
		listeners: map[net.Listener]bool{},
		conns:     map[net.Conn]bool{},
		executed:  map[Operation]int{},
	}
}

// Serve accepts connections until Close, and then returns nil.
func (s *Server) Serve(l net.Listener) error {
	if !track(s, s.listeners, l) {
		return l.Close()
	}
	defer untrack(s, s.listeners, l)
	for {
		c, err := l.Accept()
		switch {
		case err == nil:
			s.running.Go(func() { s.ServeConn(c) })
		case s.isClosed():
			return nil
		case errors.Is(err, syscall.EMFILE), errors.Is(err, syscall.ENFILE):
			s.options.Logger.Warn("no file descriptor for a further connection; trying again", slog.Any("error", err))
			<-time.After(acceptPause)
		default:
			return fmt.Errorf("service bus emulator: accept on %s: %w", l.Addr(), err)
		}
	}
}

// ServeConn serves one connection and returns when it has ended.
func (s *Server) ServeConn(c net.Conn) {
	defer c.Close()
	if !track(s, s.conns, c) {
		return
	}
	defer untrack(s, s.conns, c)
	log := s.options.Logger.With(slog.Any("remote", c.RemoteAddr()))
	if err := serve(s, c, log); err != nil {
		log.Info("connection ended", slog.Any("error", err))
	}
}

// Close closes listeners and connections and returns when all their goroutines have ended.
func (s *Server) Close() error {
	s.mu.Lock()
	s.closed = true
	listeners := maps.Clone(s.listeners)
	s.mu.Unlock()
	var errs []error
	for l := range listeners {
		errs = append(errs, l.Close())
	}
	s.CloseConnections()
	s.running.Wait()
	return errors.Join(errs...)
}

// CloseConnections cuts every connection without a word, as a broken network does.
func (s *Server) CloseConnections() {
	s.mu.Lock()
	conns := maps.Clone(s.conns)
	s.mu.Unlock()
	for c := range conns {
		c.Close()
	}
}

// Connections is the number of connections that are open.
func (s *Server) Connections() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.conns)
}

// Operations is the number of operations so far. A batch is one send.
func (s *Server) Operations() map[Operation]int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return maps.Clone(s.executed)
}

// ManagementPrefix begins the names of $management operations.
const ManagementPrefix = "com.microsoft:"

// ManagementRequests is the number of $management requests so far, by operation
// name such as "com.microsoft:renew-lock".
func (s *Server) ManagementRequests() map[string]int {
	requests := map[string]int{}
	for op, n := range s.Operations() {
		if strings.HasPrefix(op.Name, ManagementPrefix) {
			requests[op.Name] += n
		}
	}
	return requests
}

func (s *Server) count(name, entity string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.executed[Operation{name, entity}]++
}

func (s *Server) isClosed() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.closed
}

// track adds what Close has to close and wait for; false means that the server is closed.
func track[T comparable](s *Server, set map[T]bool, t T) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return false
	}
	set[t] = true
	s.running.Add(1)
	return true
}

func untrack[T comparable](s *Server, set map[T]bool, t T) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(set, t)
	s.running.Done()
}
