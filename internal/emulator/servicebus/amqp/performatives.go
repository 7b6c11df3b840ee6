package amqp

// Open starts a connection.
type Open struct {
	ContainerID         string
	Hostname            string
	MaxFrameSize        *uint32 // bytes; nil = no limit
	ChannelMax          *uint16
	IdleTimeout         *uint32 // milliseconds; nil = none
	OutgoingLocales     any
	IncomingLocales     any
	OfferedCapabilities any
	DesiredCapabilities any
	Properties          Map
}

// Begin starts a session. RemoteChannel is set in an answer.
type Begin struct {
	RemoteChannel       *uint16
	NextOutgoingID      uint32
	IncomingWindow      uint32
	OutgoingWindow      uint32
	HandleMax           *uint32
	OfferedCapabilities any
	DesiredCapabilities any
	Properties          Map
}

// Attach starts a link, or answers. Target is a *Target, a *Coordinator or nil.
type Attach struct {
	Name                 string
	Handle               uint32
	Role                 Role
	SenderSettleMode     *uint8
	ReceiverSettleMode   *uint8
	Source               *Source
	Target               Composite
	Unsettled            Map
	IncompleteUnsettled  bool
	InitialDeliveryCount *uint32
	MaxMessageSize       *uint64 // bytes
	OfferedCapabilities  any
	DesiredCapabilities  any
	Properties           Map
}

// A Role says on which end of a link the issuer of a frame is.
type Role = bool

// Roles.
const (
	RoleSender   Role = false
	RoleReceiver Role = true
)

// Settle modes of the two ends of a link.
const (
	SenderUnsettled uint8 = 0
	SenderSettled   uint8 = 1
	SenderMixed     uint8 = 2
	ReceiverFirst   uint8 = 0
	ReceiverSecond  uint8 = 1
)

// Flow updates the state of a session and, with a handle, of a link.
type Flow struct {
	NextIncomingID *uint32
	IncomingWindow uint32
	NextOutgoingID uint32
	OutgoingWindow uint32
	Handle         *uint32
	DeliveryCount  *uint32
	LinkCredit     *uint32
	Available      *uint32
	Drain          bool
	Echo           bool
	Properties     Map
}

// Transfer carries a delivery or a part of one; the bytes follow in the frame.
type Transfer struct {
	Handle             uint32
	DeliveryID         *uint32
	DeliveryTag        []byte
	MessageFormat      *uint32
	Settled            bool
	More               bool
	ReceiverSettleMode *uint8
	State              Composite
	Resume             bool
	Aborted            bool
	Batchable          bool
}

// Disposition tells the state of deliveries First to Last (nil = First alone).
// Role is the issuer's.
type Disposition struct {
	Role      Role
	First     uint32
	Last      *uint32
	Settled   bool
	State     Composite
	Batchable bool
}

// Detach ends a link.
type Detach struct {
	Handle uint32
	Closed bool
	Error  *Error
}

// End ends a session.
type End struct{ Error *Error }

// Close ends a connection.
type Close struct{ Error *Error }

// Source is the terminus that messages come from.
type Source struct {
	Address               any
	Durable               uint32
	ExpiryPolicy          Symbol
	Timeout               uint32
	Dynamic               bool
	DynamicNodeProperties any
	DistributionMode      Symbol
	Filter                Map
	DefaultOutcome        any
	Outcomes              any
	Capabilities          any
}

// Target is the terminus that messages go to.
type Target struct {
	Address               any
	Durable               uint32
	ExpiryPolicy          Symbol
	Timeout               uint32
	Dynamic               bool
	DynamicNodeProperties any
	Capabilities          any
}

// Coordinator is the target of a link that controls transactions.
type Coordinator struct{ Capabilities any }

// Received is the state of a delivery in transit.
type Received struct {
	SectionNumber uint32
	SectionOffset uint64
}

// Accepted is the outcome of a delivery that was processed.
type Accepted struct{}

// Rejected is the outcome of a delivery that is invalid.
type Rejected struct{ Error *Error }

// Released is the outcome of a delivery that was not processed.
type Released struct{}

// Modified is the outcome of a delivery that was not processed and is changed.
type Modified struct {
	DeliveryFailed     bool
	UndeliverableHere  bool
	MessageAnnotations Map
}

// SASLMechanisms offers mechanisms: an Array of Symbol, or one Symbol.
type SASLMechanisms struct{ Mechanisms any }

// SASLInit chooses a mechanism.
type SASLInit struct {
	Mechanism       Symbol
	InitialResponse []byte
	Hostname        string
}

// SASLOutcome ends the SASL exchange.
type SASLOutcome struct {
	Code           uint8
	AdditionalData []byte
}

// SASL outcome codes.
const (
	SASLOK   uint8 = 0
	SASLAuth uint8 = 1
)

func (*Open) descriptor() uint64           { return 0x10 }
func (*Begin) descriptor() uint64          { return 0x11 }
func (*Attach) descriptor() uint64         { return 0x12 }
func (*Flow) descriptor() uint64           { return 0x13 }
func (*Transfer) descriptor() uint64       { return 0x14 }
func (*Disposition) descriptor() uint64    { return 0x15 }
func (*Detach) descriptor() uint64         { return 0x16 }
func (*End) descriptor() uint64            { return 0x17 }
func (*Close) descriptor() uint64          { return 0x18 }
func (*Error) descriptor() uint64          { return 0x1d }
func (*Received) descriptor() uint64       { return 0x23 }
func (*Accepted) descriptor() uint64       { return 0x24 }
func (*Rejected) descriptor() uint64       { return 0x25 }
func (*Released) descriptor() uint64       { return 0x26 }
func (*Modified) descriptor() uint64       { return 0x27 }
func (*Source) descriptor() uint64         { return 0x28 }
func (*Target) descriptor() uint64         { return 0x29 }
func (*Coordinator) descriptor() uint64    { return 0x30 }
func (*SASLMechanisms) descriptor() uint64 { return 0x40 }
func (*SASLInit) descriptor() uint64       { return 0x41 }
func (*SASLOutcome) descriptor() uint64    { return 0x44 }

func (o *Open) appendFields(f []any) []any {
	return append(f, &o.ContainerID, &o.Hostname, &o.MaxFrameSize, &o.ChannelMax, &o.IdleTimeout,
		&o.OutgoingLocales, &o.IncomingLocales, &o.OfferedCapabilities, &o.DesiredCapabilities, &o.Properties)
}

func (b *Begin) appendFields(f []any) []any {
	return append(f, &b.RemoteChannel, &b.NextOutgoingID, &b.IncomingWindow, &b.OutgoingWindow, &b.HandleMax,
		&b.OfferedCapabilities, &b.DesiredCapabilities, &b.Properties)
}

func (a *Attach) appendFields(f []any) []any {
	return append(f, &a.Name, &a.Handle, &a.Role, &a.SenderSettleMode, &a.ReceiverSettleMode,
		&a.Source, &a.Target, &a.Unsettled, &a.IncompleteUnsettled, &a.InitialDeliveryCount, &a.MaxMessageSize,
		&a.OfferedCapabilities, &a.DesiredCapabilities, &a.Properties)
}

func (l *Flow) appendFields(f []any) []any {
	return append(f, &l.NextIncomingID, &l.IncomingWindow, &l.NextOutgoingID, &l.OutgoingWindow, &l.Handle,
		&l.DeliveryCount, &l.LinkCredit, &l.Available, &l.Drain, &l.Echo, &l.Properties)
}

func (t *Transfer) appendFields(f []any) []any {
	return append(f, &t.Handle, &t.DeliveryID, &t.DeliveryTag, &t.MessageFormat, &t.Settled, &t.More,
		&t.ReceiverSettleMode, &t.State, &t.Resume, &t.Aborted, &t.Batchable)
}

func (d *Disposition) appendFields(f []any) []any {
	return append(f, &d.Role, &d.First, &d.Last, &d.Settled, &d.State, &d.Batchable)
}

func (d *Detach) appendFields(f []any) []any   { return append(f, &d.Handle, &d.Closed, &d.Error) }
func (e *End) appendFields(f []any) []any      { return append(f, &e.Error) }
func (c *Close) appendFields(f []any) []any    { return append(f, &c.Error) }
func (e *Error) appendFields(f []any) []any    { return append(f, &e.Condition, &e.Description, &e.Info) }
func (*Accepted) appendFields(f []any) []any   { return f }
func (*Released) appendFields(f []any) []any   { return f }
func (r *Rejected) appendFields(f []any) []any { return append(f, &r.Error) }
func (r *Received) appendFields(f []any) []any {
	return append(f, &r.SectionNumber, &r.SectionOffset)
}

func (m *Modified) appendFields(f []any) []any {
	return append(f, &m.DeliveryFailed, &m.UndeliverableHere, &m.MessageAnnotations)
}

func (s *Source) appendFields(f []any) []any {
	return append(f, &s.Address, &s.Durable, &s.ExpiryPolicy, &s.Timeout, &s.Dynamic, &s.DynamicNodeProperties,
		&s.DistributionMode, &s.Filter, &s.DefaultOutcome, &s.Outcomes, &s.Capabilities)
}

func (t *Target) appendFields(f []any) []any {
	return append(f, &t.Address, &t.Durable, &t.ExpiryPolicy, &t.Timeout, &t.Dynamic, &t.DynamicNodeProperties,
		&t.Capabilities)
}

func (c *Coordinator) appendFields(f []any) []any    { return append(f, &c.Capabilities) }
func (s *SASLMechanisms) appendFields(f []any) []any { return append(f, &s.Mechanisms) }
func (s *SASLOutcome) appendFields(f []any) []any    { return append(f, &s.Code, &s.AdditionalData) }
func (s *SASLInit) appendFields(f []any) []any {
	return append(f, &s.Mechanism, &s.InitialResponse, &s.Hostname)
}
