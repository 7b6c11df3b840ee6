package server

import (
	"bufio"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"math"
	"net"
	"time"

	"hsmsweep/internal/emulator/servicebus/amqp"
)

const (
	maxFrameSize    = 65536
	channelMax      = 4999
	bufferSize      = 32 << 10
	tlsHandshake    = 0x16 // the first byte of a TLS connection
	maxHeartbeat    = 25 * time.Second
	minHeartbeat    = 100 * time.Millisecond
	containerID     = "hsmsweep-service-bus-emulator"
	closeTimeout    = 5 * time.Second
	sessionIncoming = 5000 // frames that a client may send ahead
)

// idleConn ends reads and writes that wait longer than the timeout; without one it leaves deadlines alone.
type idleConn struct {
	net.Conn
	timeout time.Duration
}

func (c *idleConn) Read(b []byte) (int, error) {
	if c.timeout > 0 {
		if err := c.SetReadDeadline(time.Now().Add(c.timeout)); err != nil {
			return 0, err
		}
	}
	return c.Conn.Read(b)
}

func (c *idleConn) Write(b []byte) (int, error) {
	if c.timeout > 0 {
		if err := c.SetWriteDeadline(time.Now().Add(c.timeout)); err != nil {
			return 0, err
		}
	}
	return c.Conn.Write(b)
}

// peekedConn reads through the buffer that the first byte was peeked from.
type peekedConn struct {
	net.Conn
	r *bufio.Reader
}

func (c *peekedConn) Read(b []byte) (int, error) { return c.r.Read(b) }

// speaksHTTP tells whether the client begins with something else than AMQP's header: no method of HTTP begins with an A.
func (c *peekedConn) speaksHTTP() bool {
	first, err := c.r.Peek(1)
	return err == nil && first[0] != amqp.HeaderAMQP[0]
}

// upgrade serves TLS on a connection that begins with it.
func upgrade(c net.Conn, config *tls.Config) (*peekedConn, error) {
	r := bufio.NewReaderSize(c, bufferSize)
	first, err := r.Peek(1)
	if err != nil {
		return nil, err
	}
	peeked := &peekedConn{Conn: c, r: r}
	if first[0] != tlsHandshake {
		return peeked, nil
	}
	if config == nil {
		return nil, errors.New("TLS client on a plain-text endpoint: use UseDevelopmentEmulator=true or configure TLS")
	}
	stream := tls.Server(peeked, config)
	return &peekedConn{Conn: stream, r: bufio.NewReaderSize(stream, bufferSize)}, nil
}

// handshake exchanges protocol headers, SASL if the client wants it, and reads
// the client's open. Each answer follows what it answers, because go-amqp does
// not expect pipelined headers.
func handshake(c net.Conn, reader *amqp.FrameReader) (*amqp.Open, error) {
	header, err := exchangeHeader(c, reader)
	if err == nil && header == amqp.HeaderSASL {
		if err = authenticate(c, reader); err == nil {
			header, err = exchangeHeader(c, reader)
		}
	}
	if err != nil {
		return nil, err
	}
	if header != amqp.HeaderAMQP {
		return nil, errors.New("a second SASL exchange")
	}
	for {
		f, err := reader.Read()
		if err != nil {
			return nil, err
		}
		if open, ok := f.Body.(*amqp.Open); ok {
			return open, nil
		}
		if f.Body != nil {
			return nil, fmt.Errorf("%T before open", f.Body)
		}
	}
}

func exchangeHeader(c net.Conn, reader *amqp.FrameReader) (string, error) {
	var b [8]byte
	if _, err := io.ReadFull(reader.R, b[:]); err != nil {
		return "", err
	}
	header := string(b[:])
	if header != amqp.HeaderAMQP && header != amqp.HeaderSASL {
		_, err := io.WriteString(c, amqp.HeaderSASL)
		return "", errors.Join(fmt.Errorf("unknown protocol header %q", header), err)
	}
	_, err := io.WriteString(c, header)
	return header, err
}

// authenticate lets everyone in: tokens are presented to $cbs.
func authenticate(c net.Conn, reader *amqp.FrameReader) error {
	offered := amqp.Array{amqp.Symbol("ANONYMOUS"), amqp.Symbol("MSSBCBS"), amqp.Symbol("EXTERNAL")}
	if err := writeSASL(c, &amqp.SASLMechanisms{Mechanisms: offered}); err != nil {
		return err
	}
	f, err := reader.Read()
	if err != nil {
		return err
	}
	init, ok := f.Body.(*amqp.SASLInit)
	if !ok {
		return fmt.Errorf("%T where sasl-init is expected", f.Body)
	}
	for _, mechanism := range offered {
		if mechanism == init.Mechanism {
			return writeSASL(c, &amqp.SASLOutcome{Code: amqp.SASLOK})
		}
	}
	err = writeSASL(c, &amqp.SASLOutcome{Code: amqp.SASLAuth})
	return errors.Join(fmt.Errorf("SASL mechanism %q is not offered", init.Mechanism), err)
}

func writeSASL(c net.Conn, body amqp.Composite) error {
	var w amqp.FrameWriter
	if err := w.Append(amqp.Frame{Type: amqp.FrameSASL, Body: body}); err != nil {
		return err
	}
	_, err := c.Write(w.Bytes())
	return err
}

// answerOpen is the server's open.
func answerOpen(idle time.Duration) *amqp.Open {
	return &amqp.Open{
		ContainerID:  containerID,
		MaxFrameSize: new(uint32(maxFrameSize)),
		ChannelMax:   new(uint16(channelMax)),
		IdleTimeout:  new(milliseconds(idle)),
	}
}

// heartbeatInterval keeps a client with this idle time-out from giving up. The
// Azure SDK for Go states 30 s and waits for 60.
func heartbeatInterval(open *amqp.Open) time.Duration {
	if open.IdleTimeout == nil || *open.IdleTimeout == 0 {
		return maxHeartbeat
	}
	idle := time.Duration(*open.IdleTimeout) * time.Millisecond
	return max(minHeartbeat, min(maxHeartbeat, idle*5/6))
}

func milliseconds(d time.Duration) uint32 {
	return uint32(min(max(d.Milliseconds(), 0), math.MaxUint32))
}
