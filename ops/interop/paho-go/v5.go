// The link over paho.golang, which speaks MQTT 5.
package main

import (
	"context"
	"fmt"
	"net"

	"github.com/eclipse/paho.golang/paho"
)

type v5Link struct {
	client   *paho.Client
	conn     net.Conn
	present  bool
	messages chan message
}

func dialV5(o options) (link, error) {
	conn, err := net.DialTimeout("tcp", address, wait)
	if err != nil {
		return nil, err
	}
	l := &v5Link{conn: conn, messages: make(chan message, 16)}
	l.client = paho.NewClient(paho.ClientConfig{
		ClientID: o.id,
		Conn:     conn,
		OnPublishReceived: []func(paho.PublishReceived) (bool, error){func(r paho.PublishReceived) (bool, error) {
			l.messages <- message{r.Packet.Topic, string(r.Packet.Payload), r.Packet.QoS, r.Packet.Retain}
			return true, nil
		}},
		PacketTimeout: wait,
	})
	connect := &paho.Connect{ClientID: o.id, KeepAlive: 30, CleanStart: !o.keepSession}
	if o.keepSession {
		expiry := uint32(60)
		connect.Properties = &paho.ConnectProperties{SessionExpiryInterval: &expiry}
	}
	if o.willTopic != "" {
		connect.WillMessage = &paho.WillMessage{Topic: o.willTopic, Payload: []byte(o.willPayload), QoS: 1}
	}
	ctx, cancel := context.WithTimeout(context.Background(), wait)
	defer cancel()
	ack, err := l.client.Connect(ctx, connect)
	if err != nil {
		return nil, fmt.Errorf("connect: %w", err)
	}
	l.present = ack.SessionPresent
	return l, nil
}

func (l *v5Link) sessionPresent() bool { return l.present }

func (l *v5Link) subscribe(topic string, qos byte) error {
	ctx, cancel := context.WithTimeout(context.Background(), wait)
	defer cancel()
	ack, err := l.client.Subscribe(ctx, &paho.Subscribe{
		Subscriptions: []paho.SubscribeOptions{{Topic: topic, QoS: qos}},
	})
	if err != nil {
		return fmt.Errorf("subscribe: %w", err)
	}
	if len(ack.Reasons) != 1 || ack.Reasons[0] != qos {
		return fmt.Errorf("SUBACK %v, not %d", ack.Reasons, qos)
	}
	return nil
}

func (l *v5Link) publish(topic, payload string, qos byte, retain bool) error {
	ctx, cancel := context.WithTimeout(context.Background(), wait)
	defer cancel()
	_, err := l.client.Publish(ctx, &paho.Publish{Topic: topic, Payload: []byte(payload), QoS: qos, Retain: retain})
	if err != nil {
		return fmt.Errorf("publish: %w", err)
	}
	return nil
}

func (l *v5Link) received() <-chan message { return l.messages }

func (l *v5Link) close() error { return l.client.Disconnect(&paho.Disconnect{}) }

func (l *v5Link) breakOff() { _ = l.conn.Close() }
