package amqp

import (
	"encoding/binary"
	"fmt"
	"math"
	"time"
)

const (
	maxDepth = 32
	// Elements without any bytes of their own, as in an array of null, are the only
	// ones whose number the input's length does not bound.
	maxZeroWidth = 1024
	preallocate  = 64
)

// Unmarshal decodes exactly one value.
func Unmarshal(b []byte) (any, error) {
	d := &decoder{b: b}
	v := d.value()
	d.finish()
	if d.err != nil {
		return nil, d.err
	}
	return v, nil
}

// A decoder keeps the first error and then reads only zeros, so that callers
// check once, at the end, and in loops.
type decoder struct {
	b         []byte
	depth     int
	zeroWidth int
	err       error
	fields    []any // a stack: the fields of the composites being read
}

func (d *decoder) fail(format string, args ...any) {
	if d.err == nil {
		d.err = Errorf(CondDecodeError, format, args...)
	}
	d.b = nil
}

func (d *decoder) finish() {
	if len(d.b) > 0 {
		d.fail("%d bytes follow the value", len(d.b))
	}
}

func (d *decoder) value() any {
	if d.depth++; d.depth > maxDepth {
		d.fail("values nested deeper than %d", maxDepth)
	}
	defer func() { d.depth-- }()
	code := d.uint8()
	if d.err != nil {
		return nil
	}
	if code == 0 {
		return Described{Descriptor: d.value(), Value: d.value()}
	}
	return d.valueOf(code)
}

// valueOf decodes what follows the constructor code.
func (d *decoder) valueOf(code byte) any {
	switch code {
	case 0x40:
		return nil
	case 0x41:
		return true
	case 0x42:
		return false
	case 0x56:
		return d.boolean()
	case 0x50:
		return d.uint8()
	case 0x51:
		return int8(d.uint8())
	case 0x60:
		return d.uint16()
	case 0x61:
		return int16(d.uint16())
	case 0x43:
		return uint32(0)
	case 0x52:
		return uint32(d.uint8())
	case 0x70:
		return d.uint32()
	case 0x54:
		return int32(int8(d.uint8()))
	case 0x71:
		return int32(d.uint32())
	case 0x44:
		return uint64(0)
	case 0x53:
		return uint64(d.uint8())
	case 0x80:
		return d.uint64()
	case 0x55:
		return int64(int8(d.uint8()))
	case 0x81:
		return int64(d.uint64())
	case 0x72:
		return math.Float32frombits(d.uint32())
	case 0x82:
		return math.Float64frombits(d.uint64())
	case 0x73:
		return Char(d.uint32())
	case 0x74:
		return Decimal(d.take(4))
	case 0x84:
		return Decimal(d.take(8))
	case 0x94:
		return Decimal(d.take(16))
	case 0x83:
		return time.UnixMilli(int64(d.uint64())).UTC()
	case 0x98:
		var u UUID
		copy(u[:], d.take(16))
		return u
	case 0xa0, 0xb0:
		return d.take(d.size(code))
	case 0xa1, 0xb1:
		return string(d.take(d.size(code)))
	case 0xa3, 0xb3:
		return Symbol(d.take(d.size(code)))
	case 0x45:
		return List{}
	case 0xc0, 0xd0:
		return d.list(code)
	case 0xc1, 0xd1:
		return d.mapValue(code)
	case 0xe0, 0xf0:
		return d.array(code)
	}
	d.fail("unknown constructor 0x%02x", code)
	return nil
}

func (d *decoder) list(code byte) List {
	rest, count := d.open(code)
	l := make(List, 0, min(count, preallocate))
	for n := 0; n < count && d.err == nil; n++ {
		l = append(l, d.value())
	}
	d.close(rest)
	return l
}

func (d *decoder) mapValue(code byte) Map {
	rest, count := d.open(code)
	if count%2 != 0 {
		d.fail("a map with %d keys and values", count)
	}
	m := make(Map, 0, min(count/2, preallocate))
	for n := 0; n < count && d.err == nil; n += 2 {
		m = append(m, Entry{Key: d.value(), Value: d.value()})
	}
	d.close(rest)
	return m
}

// open reads the size and count of a list, map or array and narrows the input
// to its body; close checks that the body is used up and restores the rest.
func (d *decoder) open(code byte) (rest []byte, count int) {
	size := d.size(code)
	if size > len(d.b) {
		d.fail("a value of %d bytes where %d are left", size, len(d.b))
		return nil, 0
	}
	rest, d.b = d.b[size:], d.b[:size]
	count = d.size(code)
	isArray := code&0xf0 == 0xe0 || code&0xf0 == 0xf0
	if count > len(d.b) && !isArray {
		d.fail("%d elements in %d bytes", count, len(d.b))
	}
	return rest, count
}

func (d *decoder) close(rest []byte) {
	d.finish()
	if d.err == nil {
		d.b = rest
	}
}

// size reads a length whose width the constructor tells: one byte for 0xa., 0xc., 0xe., else four.
func (d *decoder) size(code byte) int {
	if code&0x10 == 0 {
		return int(d.uint8())
	}
	n := d.uint32()
	if n > math.MaxInt32 {
		d.fail("a length of %d", n)
		return 0
	}
	return int(n)
}

func (d *decoder) take(n int) []byte {
	if n > len(d.b) {
		d.fail("%d bytes needed where %d are left", n, len(d.b))
	}
	if d.err != nil {
		return nil
	}
	b := d.b[:n:n]
	d.b = d.b[n:]
	return b
}

func (d *decoder) uint8() uint8 {
	if b := d.take(1); b != nil {
		return b[0]
	}
	return 0
}

func (d *decoder) uint16() uint16 {
	if b := d.take(2); b != nil {
		return binary.BigEndian.Uint16(b)
	}
	return 0
}

func (d *decoder) uint32() uint32 {
	if b := d.take(4); b != nil {
		return binary.BigEndian.Uint32(b)
	}
	return 0
}

func (d *decoder) uint64() uint64 {
	if b := d.take(8); b != nil {
		return binary.BigEndian.Uint64(b)
	}
	return 0
}

func (d *decoder) boolean() bool {
	b := d.uint8()
	if b > 1 {
		d.fail("a boolean of 0x%02x", b)
	}
	return b == 1
}

// typed decodes a value that must be a T; ok is false for null.
func typed[T any](d *decoder) (t T, ok bool) {
	v := d.value()
	if v == nil {
		return t, false
	}
	if t, ok = v.(T); !ok {
		d.fail("%s where %s is expected", fmt.Sprintf("%T", v), fmt.Sprintf("%T", t))
	}
	return t, ok
}
