package amqp

import (
	"encoding/binary"
	"io"
)

// Frame types.
const (
	FrameAMQP byte = 0
	FrameSASL byte = 1
)

// Protocol headers, 8 bytes each.
const (
	HeaderAMQP = "AMQP\x00\x01\x00\x00"
	HeaderSASL = "AMQP\x03\x01\x00\x00"
)

// MinMaxFrameSize is the smallest frame size limit, in bytes, that a peer may ask for.
const MinMaxFrameSize = 512

const frameHeaderSize = 8

// A Frame is a performative with what follows it. An empty frame, a heartbeat,
// has no Body.
type Frame struct {
	Type    byte
	Channel uint16
	Body    Composite
	Payload []byte
}

// A FrameReader reads frames of at most Max bytes.
type FrameReader struct {
	R    io.Reader
	Max  uint32
	Size uint32 // bytes of the frame that was read last

	header  [4]byte
	decoder decoder
}

// Read returns the next frame. Its payload and binary fields are the caller's to
// keep. An *Error means that the peer broke the protocol; other errors are R's.
func (r *FrameReader) Read() (Frame, error) {
	if _, err := io.ReadFull(r.R, r.header[:]); err != nil {
		return Frame{}, err
	}
	size := binary.BigEndian.Uint32(r.header[:])
	if size < frameHeaderSize || size > r.Max {
		return Frame{}, Errorf(CondFramingError, "a frame of %d bytes, at least %d and at most %d are allowed", size, frameHeaderSize, r.Max)
	}
	r.Size = size
	b := make([]byte, size-4)
	if _, err := io.ReadFull(r.R, b); err != nil {
		return Frame{}, err
	}
	r.decoder = decoder{fields: r.decoder.fields[:0]}
	return r.decoder.frame(b)
}

// ParseFrame decodes one whole frame.
func ParseFrame(b []byte) (Frame, error) {
	if len(b) < frameHeaderSize || uint32(len(b)) != binary.BigEndian.Uint32(b) {
		return Frame{}, Errorf(CondFramingError, "%d bytes are not one frame", len(b))
	}
	return new(decoder).frame(b[4:])
}

// frame decodes a frame without its size field.
func (d *decoder) frame(b []byte) (Frame, error) {
	offset := int(b[0])*4 - 4
	if offset < 4 || offset > len(b) {
		return Frame{}, Errorf(CondFramingError, "a data offset of %d words in a frame of %d bytes", b[0], len(b)+4)
	}
	f := Frame{Type: b[1], Channel: binary.BigEndian.Uint16(b[2:])}
	if f.Type > FrameSASL {
		return Frame{}, Errorf(CondFramingError, "unknown frame type %d", f.Type)
	}
	if d.b = b[offset:]; len(d.b) == 0 {
		return f, nil
	}
	f.Body = d.composite()
	if d.err != nil {
		return Frame{}, d.err
	}
	if len(d.b) > 0 {
		f.Payload = d.b
	}
	return f, nil
}

// A FrameWriter collects encoded frames.
type FrameWriter struct{ e encoder }

// Append adds a frame. It fails, adding nothing, if a value in it cannot be encoded.
func (w *FrameWriter) Append(f Frame) error {
	start := len(w.e.b)
	w.e.b = append(w.e.b, 0, 0, 0, 0, 2, f.Type, byte(f.Channel>>8), byte(f.Channel))
	if f.Body != nil {
		w.e.composite(f.Body)
	}
	w.e.b = append(w.e.b, f.Payload...)
	if err := w.e.err; err != nil {
		w.e = encoder{b: w.e.b[:start]}
		return err
	}
	binary.BigEndian.PutUint32(w.e.b[start:], uint32(len(w.e.b)-start))
	return nil
}

// Bytes returns the frames added since Reset, valid until the next call.
func (w *FrameWriter) Bytes() []byte { return w.e.b }

// Reset forgets the frames and keeps the buffer.
func (w *FrameWriter) Reset() { w.e.b = w.e.b[:0] }
