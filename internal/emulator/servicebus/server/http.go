package server

import (
	"io"
	"net"
	"net/http"
	"sync"
	"time"
)

// serveHTTP serves a connection that speaks HTTP until it ends: the SDKs call the administration API at the host and port of the
// connection string. A request, its response and the pause between two may each take the timeout.
func serveHTTP(c net.Conn, h http.Handler, timeout time.Duration) error {
	one := &oneConn{Conn: c, ended: make(chan struct{})}
	err := (&http.Server{Handler: h, ReadTimeout: timeout, WriteTimeout: timeout}).Serve(one)
	if err == io.EOF {
		return nil
	}
	return err
}

// A oneConn is a listener with one connection, itself. Its second Accept waits for the end of that connection.
type oneConn struct {
	net.Conn
	accepted bool
	once     sync.Once
	ended    chan struct{}
}

func (c *oneConn) Accept() (net.Conn, error) {
	if !c.accepted {
		c.accepted = true
		return c, nil
	}
	<-c.ended
	return nil, io.EOF
}

func (c *oneConn) Addr() net.Addr { return c.LocalAddr() }

func (c *oneConn) Close() error {
	c.once.Do(func() { close(c.ended) })
	return c.Conn.Close()
}
