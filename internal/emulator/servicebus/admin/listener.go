package admin

import (
	"bufio"
	"crypto/tls"
	"net"
	"sync"
)

// tlsHandshake is the first byte of a TLS connection.
const tlsHandshake = 0x16

// EitherTLS returns a listener whose connections are TLS if the client begins with it, else plain: the Azure SDKs
// speak https only, Microsoft's emulator http only.
func EitherTLS(l net.Listener, c *tls.Config) net.Listener {
	// net/http speaks HTTP/2 only where it sees the TLS connection itself.
	c = c.Clone()
	c.NextProtos = []string{"http/1.1"}
	return &eitherListener{l, c}
}

type eitherListener struct {
	net.Listener
	config *tls.Config
}

func (l *eitherListener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return &eitherConn{Conn: c, config: l.config}, nil
}

// An eitherConn looks at its first byte when it is first used, so that a slow client holds up no other.
type eitherConn struct {
	net.Conn
	config *tls.Config

	once   sync.Once
	stream net.Conn
	err    error
}

func (c *eitherConn) Read(b []byte) (int, error) {
	if c.once.Do(c.choose); c.err != nil {
		return 0, c.err
	}
	return c.stream.Read(b)
}

func (c *eitherConn) Write(b []byte) (int, error) {
	if c.once.Do(c.choose); c.err != nil {
		return 0, c.err
	}
	return c.stream.Write(b)
}

func (c *eitherConn) choose() {
	plain := &peekedConn{c.Conn, bufio.NewReader(c.Conn)}
	first, err := plain.reader.Peek(1)
	if err != nil {
		c.err = err
		return
	}
	c.stream = plain
	if first[0] == tlsHandshake {
		c.stream = tls.Server(plain, c.config)
	}
}

// A peekedConn reads through the buffer that its first byte was peeked from.
type peekedConn struct {
	net.Conn
	reader *bufio.Reader
}

func (c *peekedConn) Read(b []byte) (int, error) { return c.reader.Read(b) }
