package amqp

import (
	"bytes"
	"encoding/hex"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func unhex(t *testing.T, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(strings.ReplaceAll(s, " ", ""))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

var uuid = UUID{0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15}

func TestDecodeEveryConstructor(t *testing.T) {
	tests := []struct {
		wire string
		want any
	}{
		{"40", nil}, {"41", true}, {"42", false}, {"56 01", true}, {"56 00", false},
		{"50 ff", uint8(255)}, {"51 ff", int8(-1)}, {"60 0102", uint16(258)}, {"61 ffff", int16(-1)},
		{"43", uint32(0)}, {"52 ff", uint32(255)}, {"70 00000100", uint32(256)},
		{"44", uint64(0)}, {"53 ff", uint64(255)}, {"80 0000000000000100", uint64(256)},
		{"54 ff", int32(-1)}, {"71 80000000", int32(math.MinInt32)},
		{"55 ff", int64(-1)}, {"81 8000000000000000", int64(math.MinInt64)},
		{"72 3f000000", float32(0.5)}, {"82 3fe0000000000000", 0.5},
		{"73 00000041", Char('A')}, {"74 01020304", Decimal("\x01\x02\x03\x04")},
		{"84 0102030405060708", Decimal("\x01\x02\x03\x04\x05\x06\x07\x08")},
		{"94 000102030405060708090a0b0c0d0e0f", Decimal("\x00\x01\x02\x03\x04\x05\x06\x07\x08\x09\x0a\x0b\x0c\x0d\x0e\x0f")},
		{"83 ffffffffffffffff", time.UnixMilli(-1).UTC()},
		{"98 000102030405060708090a0b0c0d0e0f", uuid},
		{"a0 02 0102", []byte{1, 2}}, {"b0 00000001 01", []byte{1}},
		{"a1 02 c3a9", "é"}, {"b1 00000001 61", "a"}, {"a3 01 61", Symbol("a")}, {"b3 00000001 61", Symbol("a")},
		{"45", List{}}, {"c0 03 02 41 43", List{true, uint32(0)}}, {"d0 00000005 00000001 40", List{nil}},
		{"c1 05 02 a1 01 61 41", Map{{"a", true}}}, {"d1 00000004 00000000", Map{}},
		{"e0 04 02 50 01 02", Array{uint8(1), uint8(2)}}, {"f0 00000007 00000002 55 01 ff", Array{int64(1), int64(-1)}},
		{"e0 02 03 41", Array{true, true, true}}, {"e0 02 00 40", Array{}},
		{"e0 07 02 00 53 09 50 01 02", Array{Described{uint64(9), uint8(1)}, Described{uint64(9), uint8(2)}}},
		{"00 53 24 45", Described{uint64(0x24), List{}}}, {"00 a3 01 78 41", Described{Symbol("x"), true}},
	}
	for _, test := range tests {
		got, err := Unmarshal(unhex(t, test.wire))
		if err != nil {
			t.Errorf("%s: %v", test.wire, err)
			continue
		}
		if diff := cmp.Diff(test.want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", test.wire, diff)
		}
	}
}

func TestValuesRoundTrip(t *testing.T) {
	long := strings.Repeat("x", 300)
	values := []any{
		uint32(math.MaxUint32), uint64(math.MaxUint64), int32(127), int32(128), int64(-128), int64(-129),
		long, Symbol(long), []byte(long), []byte{}, uuid, time.UnixMilli(1767323045006).UTC(),
		List{long, List{Map{{uint64(1), List{}}}}},
		Map{{"a", nil}, {Symbol("b"), uint8(1)}, {int64(3), Array{uuid}}},
		Array{true, false}, Array{"a", long}, Array{Symbol("a")}, Array{List{}, List{"a", nil}}, Array{Map{{"a", true}}},
		Array{Array{int64(1)}, Array{"b"}}, Array{[]byte("a")}, Array{nil, nil}, Array{uint64(0), uint64(7)}, Array{0.5}, Array{Char(1)},
		Array{Described{Symbol("d"), List{}}},
	}
	for _, v := range values {
		b, err := Marshal(v)
		if err != nil {
			t.Errorf("%T: %v", v, err)
			continue
		}
		got, err := Unmarshal(b)
		if err != nil {
			t.Errorf("%T as %x: %v", v, b, err)
			continue
		}
		if diff := cmp.Diff(v, got); diff != "" {
			t.Errorf("%T as %x (-want +got):\n%s", v, b, diff)
		}
	}
}

func TestCannotEncode(t *testing.T) {
	for _, v := range []any{1, struct{}{}, Decimal("12"), Array{"a", 1.5}, Array{Described{uint64(1), 1.5}, Described{uint64(2), 1.5}}, Array{Decimal("1234"), Decimal("12345678")}, Array{&Accepted{}}} {
		if b, err := Marshal(v); err == nil {
			t.Errorf("%#v is encoded as %x", v, b)
		}
	}
}

func TestMalformedValues(t *testing.T) {
	for name, wire := range map[string]string{
		"nothing":                     "",
		"unknown constructor":         "01",
		"cut short":                   "70 0000",
		"trailing bytes":              "40 40",
		"boolean of 2":                "56 02",
		"string beyond the end":       "a1 05 61",
		"string of 4 GiB":             "b1 ffffffff 61",
		"list beyond the end":         "c0 05 01 40",
		"list with too many elements": "c0 03 09 40 40",
		"list with too few elements":  "c0 03 01 40 40",
		"map with half an entry":      "c1 02 01 40",
		"map of 2^31 entries":         "d1 00000004 80000000",
		"array without a constructor": "e0 01 01",
		"array of 2^31 nulls":         "f0 00000005 7fffffff 40",
		"array of an unknown type":    "e0 03 01 01 01",
		"deep nesting":                strings.Repeat("00 40 ", 40) + "40",
		"deep lists":                  strings.Repeat("d0 7fffffff 00000001 ", 40),
	} {
		if v, err := Unmarshal(unhex(t, wire)); err == nil {
			t.Errorf("%s: decoded as %#v", name, v)
		}
	}
}

// What the standard and go-amqp write, byte for byte.
func TestGoldenFrames(t *testing.T) {
	tests := map[string]struct {
		frame Frame
		wire  string
	}{
		"heartbeat":    {Frame{}, "00000008 02 00 0000"},
		"sasl outcome": {Frame{Type: FrameSASL, Body: &SASLOutcome{}}, "00000011 02 01 0000 005344 c0 04 02 5000 40"},
		"accepted":     {Frame{Channel: 1, Body: &Disposition{Role: RoleReceiver, First: 7, Settled: true, State: &Accepted{}}}, "00000018 02 00 0001 005315 c0 0b 06 41 5207 40 41 00532445 42"},
		"detach":       {Frame{Body: &Detach{Handle: 3, Closed: true, Error: &Error{Condition: "x:y", Description: "d"}}}, "00000020 02 00 0000 005316 c0 13 03 5203 41 00531d c0 0a 03 a303783a79 a10164 40"},
		"transfer":     {Frame{Body: &Transfer{Handle: 0, DeliveryID: new(uint32(1)), DeliveryTag: []byte{9}, MessageFormat: new(uint32(0)), More: true}, Payload: []byte{1, 2}}, "0000001e 02 00 0000 005314 c0 0f 0b 43 5201 a00109 43 42 41 40 40 42 42 42 0102"},
		"flow":         {Frame{Body: &Flow{NextIncomingID: new(uint32(0)), IncomingWindow: 5000, OutgoingWindow: 1}}, "0000001e 02 00 0000 005313 c0 11 0b 43 7000001388 43 5201 40 40 40 40 42 42 40"},
		"begin answer": {Frame{Body: &Begin{RemoteChannel: new(uint16(2)), IncomingWindow: 1, OutgoingWindow: 1}}, "0000001a 02 00 0000 005311 c0 0d 08 600002 43 5201 5201 40 40 40 40"},
		"end":          {Frame{Body: &End{}}, "0000000f 02 00 0000 005317 c0 02 01 40"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			var w FrameWriter
			if err := w.Append(test.frame); err != nil {
				t.Fatal(err)
			}
			if got, want := hex.EncodeToString(w.Bytes()), strings.ReplaceAll(test.wire, " ", ""); got != want {
				t.Errorf("got  %s\nwant %s", got, want)
			}
			r := FrameReader{R: bytes.NewReader(w.Bytes()), Max: 512}
			got, err := r.Read()
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(test.frame, got); diff != "" {
				t.Errorf("read back (-want +got):\n%s", diff)
			}
		})
	}
}

func TestReadForeignFrames(t *testing.T) {
	tests := map[string]struct {
		wire string
		want Composite
	}{
		"ulong descriptor":    {"00000013 02 00 0000 00 80 0000000000000017 45", &End{}},
		"symbolic descriptor": {"00000019 02 00 0000 00 a3 0d 616d71703a656e643a6c697374 45", &End{}},
		"extended header":     {"00000010 03 00 0000 ffffffff 005317 45", &End{}},
		"fields left out":     {"0000000f 02 00 0000 005316 c0 02 01 43", &Detach{}},
		"list32 and symbols":  {"00000018 02 01 0000 005340 d0 00000008 00000001 a302 4142", &SASLMechanisms{Mechanisms: Symbol("AB")}},
	}
	for name, test := range tests {
		f, err := ParseFrame(unhex(t, test.wire))
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if diff := cmp.Diff(test.want, f.Body); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
}

func TestRefusedFrames(t *testing.T) {
	for name, wire := range map[string]string{
		"size and length differ": "00000009 02 00 0000",
		"offset in the header":   "00000008 01 00 0000",
		"offset beyond the end":  "00000008 03 00 0000",
		"unknown type":           "00000008 02 02 0000",
		"no described value":     "00000009 02 00 0000 40",
		"unknown descriptor":     "0000000c 02 00 0000 005399 45",
		"descriptor of a ubyte":  "0000000c 02 00 0000 00 5017 45",
		"no list":                "0000000c 02 00 0000 005317 40",
		"too many fields":        "00000010 02 00 0000 005317 c0 03 02 40 40",
		"no mandatory field":     "0000000c 02 00 0000 005316 45",
		"null mandatory field":   "0000000f 02 00 0000 005316 c0 02 01 40",
		"field of another type":  "0000000f 02 00 0000 005316 c0 02 01 44",
		"composite of another":   "00000012 02 00 0000 005317 c0 05 01 005324 45",
	} {
		b := unhex(t, wire)
		if name != "size and length differ" && int(b[3]) != len(b) {
			t.Fatalf("%s: the test says %d bytes and has %d", name, b[3], len(b))
		}
		if f, err := ParseFrame(b); err == nil {
			t.Errorf("%s: decoded as %+v", name, f.Body)
		}
	}
}

func TestAttachRoundTrip(t *testing.T) {
	attach := &Attach{
		Name: "link", Handle: 300, Role: RoleReceiver, SenderSettleMode: new(SenderSettled), ReceiverSettleMode: new(ReceiverSecond),
		Source:    &Source{Address: "queue", ExpiryPolicy: "never", Filter: Map{{Symbol("f"), Described{uint64(1), nil}}}, Outcomes: Array{Symbol("amqp:accepted:list")}},
		Target:    &Coordinator{Capabilities: Symbol("c")},
		Unsettled: Map{}, InitialDeliveryCount: new(uint32(9)), MaxMessageSize: new(uint64(1) << 40), Properties: Map{{Symbol("p"), "v"}},
	}
	var w FrameWriter
	if err := w.Append(Frame{Channel: 65535, Body: attach}); err != nil {
		t.Fatal(err)
	}
	got, err := ParseFrame(w.Bytes())
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(Frame{Channel: 65535, Body: attach}, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestFailedAppendLeavesWriterUsable(t *testing.T) {
	var w FrameWriter
	if err := w.Append(Frame{Body: &Open{Properties: Map{{"k", 1}}}}); err == nil {
		t.Error("an int is encoded")
	}
	if err := w.Append(Frame{}); err != nil || len(w.Bytes()) != 8 {
		t.Errorf("then a heartbeat is %x, %v", w.Bytes(), err)
	}
}

func TestSwapUUID(t *testing.T) {
	want := UUID{3, 2, 1, 0, 5, 4, 7, 6, 8, 9, 10, 11, 12, 13, 14, 15}
	if got := SwapUUID(uuid); got != want || SwapUUID(got) != uuid {
		t.Errorf("SwapUUID(%s) = %s", uuid, got)
	}
	if got := uuid.String(); got != "00010203-0405-0607-0809-0a0b0c0d0e0f" {
		t.Errorf("String() = %s", got)
	}
}
