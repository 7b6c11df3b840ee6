package main

import (
	"io"
	"net"
	"sync"
	"testing"
)

// A proxy passes TCP connections on to another address until they are cut.
type proxy struct {
	net.Listener
	to string

	mu      sync.Mutex
	conns   map[net.Conn]bool // true: passes nothing on any more
	running sync.WaitGroup
}

// startProxy listens on a free port of the loopback interface. It ends with the test.
func startProxy(t *testing.T, to string) *proxy {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &proxy{Listener: l, to: to, conns: map[net.Conn]bool{}}
	p.running.Go(p.accept)
	t.Cleanup(func() {
		l.Close()
		p.cut()
		p.running.Wait()
	})
	return p
}

func (p *proxy) accept() {
	for {
		client, err := p.Accept()
		if err != nil {
			return
		}
		server, err := net.Dial("tcp", p.to)
		if err != nil {
			client.Close() // as a host does on which nobody listens
			continue
		}
		p.mu.Lock()
		p.conns[client], p.conns[server] = false, false
		p.mu.Unlock()
		p.running.Go(func() { p.pass(client, server) })
		p.running.Go(func() { p.pass(server, client) })
	}
}

// pass copies until either side ends, and ends both.
func (p *proxy) pass(from, to net.Conn) {
	_, _ = io.Copy(unlessFrozen{p, to}, from) // that it ends is all there is to know
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, c := range []net.Conn{from, to} {
		c.Close()
		delete(p.conns, c)
	}
}

type unlessFrozen struct {
	p  *proxy
	to net.Conn
}

func (u unlessFrozen) Write(b []byte) (int, error) {
	u.p.mu.Lock()
	frozen := u.p.conns[u.to]
	u.p.mu.Unlock()
	if frozen {
		return len(b), nil
	}
	return u.to.Write(b)
}

// freeze has the connections of now pass nothing on any more, and leaves them open: as a firewall that has forgotten them.
func (p *proxy) freeze() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for c := range p.conns {
		p.conns[c] = true
	}
}

// cut ends every connection without a word.
func (p *proxy) cut() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for c := range p.conns {
		c.Close()
	}
}
