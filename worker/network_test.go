package worker_test

import (
	"context"
	"net"
	"sync"

	"hsmsweep/internal/emulator"
)

// A crash is the write with which a replica dies: the n-th of all that it does, 0 for never.
type crash struct {
	n     int
	after bool // the write still arrives
}

// A network is the only way in which a replica reaches the outside. When it crashes, nothing gets through any more, in
// either direction: from outside that cannot be told from a process that is killed, whatever its goroutines still do.
type network struct {
	crash   crash
	crashed chan struct{} // closed by the crash

	mu     sync.Mutex
	dead   bool
	writes int
	conns  []net.Conn
}

// dialler connects to one service.
func (n *network) dialler(to *emulator.Pipe) dialFunc {
	return func(ctx context.Context) (net.Conn, error) {
		if n.isDead() {
			return nil, net.ErrClosed
		}
		c, err := to.Dial(ctx)
		if err != nil {
			return nil, err
		}
		n.mu.Lock()
		defer n.mu.Unlock()
		n.conns = append(n.conns, c)
		return &wire{c, n}, nil
	}
}

func (n *network) isDead() bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.dead
}

// die crashes now.
func (n *network) die() {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.dead {
		return
	}
	n.dead = true
	for _, c := range n.conns {
		c.Close()
	}
	close(n.crashed)
}

// dieWithin crashes at one of the next writes.
func (n *network) dieWithin(writes int, after bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.crash = crash{n.writes + writes, after}
}

// written is the number of writes so far.
func (n *network) written() int {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.writes
}

// counted counts a write, and tells whether it is the one to die with.
func (n *network) counted() (fatal, after bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.writes++
	return n.writes == n.crash.n, n.crash.after
}

type wire struct {
	net.Conn
	network *network
}

func (w *wire) Write(b []byte) (int, error) {
	fatal, after := w.network.counted()
	if fatal && !after {
		w.network.die()
	}
	if w.network.isDead() {
		return 0, net.ErrClosed
	}
	n, err := w.Conn.Write(b)
	if fatal {
		w.network.die()
	}
	return n, err
}
