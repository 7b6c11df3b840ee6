package server

import (
	"hsmsweep/internal/emulator/servicebus/amqp"
	"hsmsweep/internal/emulator/servicebus/broker"
)

// Codec is how a broker's store keeps what this server puts into messages: in AMQP's own encoding, as it was sent.
type Codec struct{}

// EncodeMessage and the other methods are broker.Codec.
func (Codec) EncodeMessage(m *broker.Message) ([]byte, error) {
	return m.Content.(*amqp.Message).Append(nil)
}

func (Codec) DecodeMessage(b []byte) (*broker.Message, error) { return newMessage(b) }

func (Codec) EncodeProperties(properties map[string]any) ([]byte, error) {
	m := &amqp.Message{ApplicationProperties: mergeProperties(nil, properties)}
	return m.Append(nil)
}

func (Codec) DecodeProperties(b []byte) (map[string]any, error) {
	m, err := amqp.ParseMessage(b)
	if err != nil {
		return nil, err
	}
	return propertiesOf(m.ApplicationProperties), nil
}
