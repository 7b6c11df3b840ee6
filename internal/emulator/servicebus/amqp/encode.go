package amqp

import (
	"encoding/binary"
	"fmt"
	"math"
	"time"
)

// Marshal encodes one value. It fails for Go types that the package comment
// does not list and for arrays of mixed types.
func Marshal(v any) ([]byte, error) {
	e := &encoder{}
	e.value(v)
	return e.b, e.err
}

// An encoder appends to b and keeps the first error.
type encoder struct {
	b      []byte
	err    error
	fields []any // a stack: the fields of the composites being written
}

func (e *encoder) fail(format string, args ...any) {
	if e.err == nil {
		e.err = fmt.Errorf("amqp: cannot encode "+format, args...)
	}
}

func (e *encoder) value(v any) {
	switch v := v.(type) {
	case nil:
		e.byte(0x40)
	case bool:
		if v {
			e.byte(0x41)
		} else {
			e.byte(0x42)
		}
	case uint32:
		e.uint32(v)
	case uint64:
		e.uint64(v)
	case int32:
		if v == int32(int8(v)) {
			e.bytes(0x54, byte(v))
		} else {
			e.fixed(v)
		}
	case int64:
		if v == int64(int8(v)) {
			e.bytes(0x55, byte(v))
		} else {
			e.fixed(v)
		}
	case []byte:
		e.sized(0xa0, 0xb0, len(v))
		e.b = append(e.b, v...)
	case string:
		e.text(0xa1, v)
	case Symbol:
		e.text(0xa3, string(v))
	case List:
		e.list(v)
	case Map:
		e.mapValue(v)
	case Array:
		e.array(v)
	case Described:
		e.byte(0x00)
		e.value(v.Descriptor)
		e.value(v.Value)
	case Composite:
		e.composite(v)
	default:
		e.fixed(v)
	}
}

func (e *encoder) uint32(v uint32) {
	switch {
	case v == 0:
		e.byte(0x43)
	case v <= math.MaxUint8:
		e.bytes(0x52, byte(v))
	default:
		e.b = binary.BigEndian.AppendUint32(append(e.b, 0x70), v)
	}
}

func (e *encoder) uint64(v uint64) {
	switch {
	case v == 0:
		e.byte(0x44)
	case v <= math.MaxUint8:
		e.bytes(0x53, byte(v))
	default:
		e.b = binary.BigEndian.AppendUint64(append(e.b, 0x80), v)
	}
}

func (e *encoder) text(code byte, s string) {
	e.sized(code, code+0x10, len(s))
	e.b = append(e.b, s...)
}

func (e *encoder) sized(short, long byte, n int) {
	if n <= math.MaxUint8 {
		e.bytes(short, byte(n))
	} else {
		e.b = binary.BigEndian.AppendUint32(append(e.b, long), uint32(n))
	}
}

func (e *encoder) list(l List) {
	if len(l) == 0 {
		e.byte(0x45)
		return
	}
	start := e.open(0xc0)
	for _, v := range l {
		e.value(v)
	}
	e.close(start, len(l))
}

func (e *encoder) mapValue(m Map) {
	start := e.open(0xc1)
	for _, entry := range m {
		e.value(entry.Key)
		e.value(entry.Value)
	}
	e.close(start, 2*len(m))
}

// fixed writes a value whose type has one width.
func (e *encoder) fixed(v any) {
	e.byte(wideConstructor(v))
	e.fixedBytes(v)
}

func (e *encoder) fixedBytes(v any) {
	switch v := v.(type) {
	case uint8:
		e.byte(v)
	case int8:
		e.byte(byte(v))
	case uint16:
		e.b = binary.BigEndian.AppendUint16(e.b, v)
	case int16:
		e.b = binary.BigEndian.AppendUint16(e.b, uint16(v))
	case int32:
		e.b = binary.BigEndian.AppendUint32(e.b, uint32(v))
	case int64:
		e.b = binary.BigEndian.AppendUint64(e.b, uint64(v))
	case float32:
		e.b = binary.BigEndian.AppendUint32(e.b, math.Float32bits(v))
	case float64:
		e.b = binary.BigEndian.AppendUint64(e.b, math.Float64bits(v))
	case Char:
		e.b = binary.BigEndian.AppendUint32(e.b, uint32(v))
	case Decimal:
		if wideConstructor(v) == 0 {
			e.fail("a decimal of %d bytes", len(v))
		}
		e.b = append(e.b, v...)
	case time.Time:
		e.b = binary.BigEndian.AppendUint64(e.b, uint64(v.UnixMilli()))
	case UUID:
		e.b = append(e.b, v[:]...)
	default:
		e.fail("a %T", v)
	}
}

// open starts a list, map or array in its one-byte form; close writes size and
// count and widens the form where they do not fit.
func (e *encoder) open(code byte) (start int) {
	start = len(e.b)
	e.b = append(e.b, code, 0, 0)
	return start
}

func (e *encoder) close(start, count int) {
	size := len(e.b) - start - 2
	if size <= math.MaxUint8 && count <= math.MaxUint8 {
		e.b[start+1], e.b[start+2] = byte(size), byte(count)
		return
	}
	e.b = append(e.b, 0, 0, 0, 0, 0, 0)
	copy(e.b[start+9:], e.b[start+3:])
	e.b[start] += 0x10
	binary.BigEndian.PutUint32(e.b[start+1:], uint32(size+3))
	binary.BigEndian.PutUint32(e.b[start+5:], uint32(count))
}

func (e *encoder) byte(b byte)        { e.b = append(e.b, b) }
func (e *encoder) bytes(b, next byte) { e.b = append(e.b, b, next) }
