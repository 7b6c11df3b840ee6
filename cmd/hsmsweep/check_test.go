package main

import (
	"bufio"
	"crypto/tls"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"hsmsweep/internal/emulator"
	"hsmsweep/internal/emulator/arm"
	"hsmsweep/internal/emulator/fault"
	"hsmsweep/internal/emulator/servicebus/broker"
)

// checkAzure is an Azure that nothing is to be said about: with a pool, and whatever may go wrong with it.
func checkAzure(t *testing.T, faults fault.Injector, denied ...string) *azure {
	t.Helper()
	entities := broker.DefaultConfig()
	entities.Queues[0].DeadLetterOnExpiration = true
	entities.Topics[0].DuplicateDetectionWindow = 7 * day
	a := newAzureOf(t, emulator.Options{Entities: entities, Faults: faults}, arm.Pool{ID: samplePool, Denied: denied})
	a.serve(t)
	return a
}

// check runs the command, with variables that win over Azure's, and returns its findings by their names.
func (a *azure) check(t *testing.T, code int, vars ...string) map[string]finding {
	t.Helper()
	p := launch(t, append(append([]string{}, a.env...), vars...), "check", "--json", "--pool="+samplePool)
	began := time.Now()
	p.wantExit(t, code, 2*patience)
	if took := time.Since(began); took > checkTimeout+closeTimeout {
		t.Errorf("it took %v", took)
	}
	findings := map[string]finding{}
	for line := range strings.Lines(p.out.text()) {
		var f finding
		if err := json.Unmarshal([]byte(line), &f); err != nil {
			t.Fatalf("finding %q: %v", line, err)
		}
		if _, twice := findings[f.Check]; twice {
			t.Errorf("%s is told twice", f.Check)
		}
		findings[f.Check] = f
	}
	return findings
}

// wantFindings compares everything that is not ok, as check: result and the words that must be in the message.
func wantFindings(t *testing.T, got map[string]finding, want map[string]string) {
	t.Helper()
	told, wanted := map[string]result{}, map[string]result{}
	for name, f := range got {
		if f.Result != isOK {
			told[name] = f.Result
		}
	}
	for name, text := range want {
		r, words, _ := strings.Cut(text, ": ")
		wanted[name] = result(r)
		if !strings.Contains(got[name].text(), words) {
			t.Errorf("%s says %q, want %q in it", name, got[name].text(), words)
		}
	}
	if diff := cmp.Diff(wanted, told); diff != "" {
		t.Errorf("not ok (-want +got):\n%s", diff)
	}
}

func TestCheckFindsNothing(t *testing.T) {
	t.Parallel()
	a := checkAzure(t, nil)
	got := a.check(t, 0)
	wantFindings(t, got, nil)
	readme, err := os.ReadFile("../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	for name := range got {
		group, _, _ := strings.Cut(name, ".")
		if !strings.Contains(string(readme), "`"+name+"`") && !strings.Contains(string(readme), "`"+group+".…`") {
			t.Errorf("README.md does not tell of %s", name)
		}
	}
	for _, e := range a.ARM.Exchanges() {
		if e.Method != http.MethodGet {
			t.Errorf("ARM was sent %s %s", e.Method, e.URL)
		}
	}
}

// TestCheckRights has an identity that may read everything and delete nothing, and then not even ask what it may do.
func TestCheckRights(t *testing.T) {
	t.Parallel()
	const deletes = "Microsoft.KeyVault/managedHSMs/privateEndpointConnections/delete"
	wantFindings(t, checkAzure(t, nil, deletes).check(t, 1), map[string]string{"arm.rights": "failure: the identity lacks, on sample-mhsm: " + deletes})
	wantFindings(t, checkAzure(t, nil, "Microsoft.Authorization/permissions/read").check(t, 0), map[string]string{"arm.rights": "unknown: Microsoft.Authorization/permissions/read"})
}

// TestCheckNothingListens has Azure's addresses, and nobody there: each is told once.
func TestCheckNothingListens(t *testing.T) {
	t.Parallel()
	a := newAzureOf(t, emulator.Options{Entities: broker.DefaultConfig()}, arm.Pool{ID: samplePool})
	for _, l := range a.listeners {
		_ = l.Close()
	}
	wantFindings(t, a.check(t, 1), map[string]string{
		"namespace.reach":    "failure: connection refused",
		"namespace.entities": "unknown: the namespace was not reached",
		"arm.token":          "failure: no token for",
		"arm.rights":         "unknown: ARM was not reached",
	})
}

// TestCheckNobodyAnswers has a host that takes connections and says nothing.
func TestCheckNobodyAnswers(t *testing.T) {
	t.Parallel()
	a := checkAzure(t, nil)
	silent, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = silent.Close() })
	addr := silent.Addr().String()
	wantFindings(t, a.check(t, 1, "HSMSWEEP_CONNECTION_STRING="+emulator.ConnectionString(addr), "HSMSWEEP_ARM_ENDPOINT=https://"+addr), map[string]string{
		"queue.receive":      "failure: no answer about connection-deletes",
		"namespace.entities": "unknown: does not answer",
		"queue.settings":     "unknown: the administration API (https) does not answer",
		"events.settings":    "unknown: not looked at either",
		"arm.reach":          "failure: ARM's host",
		"arm.rights":         "unknown: ARM was not reached",
	})
}

// TestCheckCredentials has tokens that cannot be had, that are for somebody else, and that Service Bus refuses.
func TestCheckCredentials(t *testing.T) {
	t.Parallel()
	a := checkAzure(t, nil)
	t.Run("no token", func(t *testing.T) {
		wantFindings(t, a.check(t, 1, "IDENTITY_HEADER=wrong"), map[string]string{"arm.token": "failure: AZURE_CLIENT_ID", "arm.rights": "unknown: not reached"})
	})
	t.Run("for somebody else", func(t *testing.T) {
		wantFindings(t, a.check(t, 1, "HSMSWEEP_ARM_AUDIENCE=https://vault.azure.net"), map[string]string{
			"arm.answer": "failure: HTTP 401 InvalidAuthenticationToken", "arm.rights": "unknown: not reached"})
	})
	t.Run("an old signature", func(t *testing.T) {
		old := strings.Replace(emulator.ConnectionString(a.addr), "se=4102444800", "se=1700000000", 1)
		wantFindings(t, a.check(t, 1, "HSMSWEEP_CONNECTION_STRING="+old), map[string]string{
			"namespace.credential": "failure: good until 2023-11-14", "namespace.entities": "unknown: not reached"})
	})
	t.Run("without the right to send events", func(t *testing.T) {
		refused := checkAzure(t, func(op fault.Operation) fault.Fault {
			if op.Name == "attach" && op.Target == defaultEvents {
				return fault.Fault{Kind: fault.Refused, Condition: "amqp:unauthorized-access"}
			}
			return fault.Fault{}
		})
		wantFindings(t, refused.check(t, 1), map[string]string{"events.send": "failure: Azure Service Bus Data Sender on connection-events"})
	})
}

// TestCheckSettingsDenied has an administration API that lets nobody in, while messages pass: it says so, and goes on.
func TestCheckSettingsDenied(t *testing.T) {
	t.Parallel()
	a := checkAzure(t, nil)
	addr := a.front(t, a.addr, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusUnauthorized)
		_, _ = io.WriteString(w, "<Error><Code>401</Code><Detail>Manage,EntityRead claims required for this operation.</Detail></Error>")
	}))
	got := a.check(t, 0, "HSMSWEEP_CONNECTION_STRING="+emulator.ConnectionString(addr))
	wantFindings(t, got, map[string]string{
		"queue.settings":  "unknown: the right to read the settings of connection-deletes is missing (HTTP 401)",
		"events.settings": "unknown: the right to read the settings of connection-events is missing (HTTP 401)",
	})
	for _, name := range []string{"queue.receive", "queue.send", "events.send", "namespace.clock", "arm.rights"} {
		if got[name].Result != isOK {
			t.Errorf("%s is %+v, want it looked at all the same", name, got[name])
		}
	}
}

// TestCheckClock has services whose clocks differ from this machine's by a little, and by more than tokens bear.
func TestCheckClock(t *testing.T) {
	t.Parallel()
	a := checkAzure(t, nil)
	bus := a.front(t, a.addr, dated{a.Admin, -time.Minute})
	resources := a.front(t, a.listeners[1].Addr().String(), dated{a.ARM, time.Hour})
	wantFindings(t, a.check(t, 1, "HSMSWEEP_CONNECTION_STRING="+emulator.ConnectionString(bus), "HSMSWEEP_ARM_ENDPOINT=https://"+resources), map[string]string{
		"namespace.clock": "warning: ahead of that of Service Bus",
		"arm.clock":       "failure: behind that of ARM: tokens",
	})
}

// dated answers as by a clock that is wrong by so much.
type dated struct {
	http.Handler
	off time.Duration
}

func (d dated) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	d.Handler.ServeHTTP(datedWriter{w, d.off}, r)
}

type datedWriter struct {
	http.ResponseWriter
	off time.Duration
}

func (w datedWriter) WriteHeader(status int) {
	w.Header().Set("Date", time.Now().Add(w.off).UTC().Format(http.TimeFormat))
	w.ResponseWriter.WriteHeader(status)
}

// front stands before a service: what begins with TLS is HTTP for the handler, all else is passed on. It returns its address.
func (a *azure) front(t *testing.T, to string, handler http.Handler) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	behind := startProxy(t, to)
	secure := &handed{Listener: l, conns: make(chan net.Conn), closed: make(chan struct{})}
	server := &http.Server{Handler: handler}
	var running sync.WaitGroup
	running.Go(func() { _ = server.Serve(tls.NewListener(secure, a.Authority.ServerConfig())) })
	running.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			running.Go(func() { secure.sort(conn, behind.Addr().String()) })
		}
	})
	t.Cleanup(func() {
		_ = server.Close()
		behind.cut()
		running.Wait()
	})
	return l.Addr().String()
}

// handed is a listener that is handed its connections.
type handed struct {
	net.Listener
	conns  chan net.Conn
	closed chan struct{}
	once   sync.Once
}

func (h *handed) Accept() (net.Conn, error) {
	select {
	case conn := <-h.conns:
		return conn, nil
	case <-h.closed:
		return nil, net.ErrClosed
	}
}

func (h *handed) Close() error {
	h.once.Do(func() { close(h.closed) })
	return h.Listener.Close()
}

// sort looks at the first byte: 22 begins a TLS handshake.
func (h *handed) sort(conn net.Conn, to string) {
	in := bufio.NewReader(conn)
	first, err := in.Peek(1)
	if err == nil && first[0] == 22 {
		select {
		case h.conns <- begun{conn, in}:
		case <-h.closed:
			_ = conn.Close()
		}
		return
	}
	defer conn.Close()
	server, err := net.Dial("tcp", to)
	if err != nil {
		return
	}
	defer server.Close()
	go func() { _, _ = io.Copy(server, in); _ = server.Close() }()
	_, _ = io.Copy(conn, server)
}

// begun is a connection of which something was read already.
type begun struct {
	net.Conn
	in *bufio.Reader
}

func (b begun) Read(p []byte) (int, error) { return b.in.Read(p) }
