package embedded

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// The files of one stream in a backup: those of the nats command.
const (
	backupInfo = "backup.json"
	backupData = "stream.tar.s2"
	// backupPart ends the name of a folder that is not complete.
	backupPart = ".part"
	// chunk is how much of a stream travels in one message.
	chunk = 128 << 10
)

// Backup writes all streams with their messages and consumers into dir, a folder
// for each, in the format of nats stream backup. dir is made, and must be empty.
// Each stream is as it was at one moment; to have all of them of the same moment
// stop the nodes first. It works through the connection of Conn, so on servers
// elsewhere, too. An error leaves folders that end in .part or are complete.
//
// Errors: ErrBackup with the stream, and the error of ctx.
func (s *Server) Backup(ctx context.Context, dir string) error {
	js, err := jetstream.New(s.conn)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return backupFailed("folder "+dir, err)
	}
	if there, err := os.ReadDir(dir); err != nil || len(there) > 0 {
		return backupFailed("folder "+dir, errors.Join(err, errors.New("it must be empty")))
	}
	list := js.StreamNames(ctx)
	var names []string
	for name := range list.Name() {
		names = append(names, name)
	}
	if err := list.Err(); err != nil {
		return backupFailed("the list of streams", err)
	}
	for _, name := range names {
		if err := s.backup(ctx, dir, name); err != nil {
			return backupFailed("stream "+name, err)
		}
	}
	return nil
}

func backupFailed(what string, err error) error {
	return &fault{is: ErrBackup, errs: []error{err}, text: fmt.Sprintf("backup: %s: %v", what, err)}
}

// snapshot is what the server says about the stream that it sends.
type snapshot struct {
	Config json.RawMessage `json:"config"`
	State  json.RawMessage `json:"state"`
}

// backup writes one stream.
func (s *Server) backup(ctx context.Context, dir, name string) (err error) {
	part := filepath.Join(dir, name+backupPart)
	if err := os.Mkdir(part, 0o700); err != nil {
		return err
	}
	data, err := os.OpenFile(filepath.Join(part, backupData), os.O_CREATE|os.O_WRONLY|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	var info snapshot
	info, err = s.receive(ctx, name, data)
	if err = errors.Join(err, data.Sync(), data.Close()); err != nil {
		return err
	}
	text, err := json.MarshalIndent(info, "", "\t")
	if err != nil {
		return err
	}
	if err := writeSynced(filepath.Join(part, backupInfo), text); err != nil {
		return err
	}
	return os.Rename(part, filepath.Join(dir, name))
}

// receive lets the server send a stream, and writes it to w.
func (s *Server) receive(ctx context.Context, name string, w io.Writer) (info snapshot, err error) {
	inbox := s.conn.NewRespInbox()
	sub, err := s.conn.SubscribeSync(inbox)
	if err != nil {
		return info, err
	}
	defer func() { _ = sub.Unsubscribe() }()
	if err := ask(ctx, s.conn, "$JS.API.STREAM.SNAPSHOT."+name, map[string]any{"deliver_subject": inbox, "chunk_size": chunk}, &info); err != nil {
		return info, err
	}
	for {
		msg, err := sub.NextMsgWithContext(ctx)
		if err != nil {
			return info, err
		}
		if len(msg.Data) == 0 { // the end, which says how it went
			if status := msg.Header.Get("Status"); status != "" && status != "204" {
				return info, fmt.Errorf("the server stopped: %s %s", status, msg.Header.Get("Description"))
			}
			return info, nil
		}
		if _, err := w.Write(msg.Data); err != nil {
			return info, err
		}
		if msg.Reply != "" {
			if err := s.conn.Publish(msg.Reply, nil); err != nil {
				return info, err
			}
		}
	}
}

// Restore makes the streams of a backup that Backup or nats stream backup wrote
// into folders of dir, with their messages and consumers, before the nodes are
// started. A stream that is there already is an error; those before it stay.
// Streams have as many copies as they had: see Replicate.
//
// Errors: ErrBackup with the stream, and the error of ctx.
func (s *Server) Restore(ctx context.Context, dir string) error {
	folders, err := os.ReadDir(dir)
	if err != nil {
		return backupFailed("folder "+dir, err)
	}
	folders = slices.DeleteFunc(folders, func(f os.DirEntry) bool { return !f.IsDir() })
	if len(folders) == 0 {
		return backupFailed("folder "+dir, errors.New("there is no stream in it"))
	}
	for _, f := range folders {
		if filepath.Ext(f.Name()) == backupPart {
			return backupFailed("folder "+f.Name(), errors.New("it is not complete: back up again, or remove it to go without that stream"))
		}
	}
	for _, f := range folders {
		if err := s.restore(ctx, filepath.Join(dir, f.Name())); err != nil {
			return backupFailed("stream "+f.Name(), err)
		}
	}
	return nil
}

// restore sends one stream to the server.
func (s *Server) restore(ctx context.Context, folder string) error {
	text, err := os.ReadFile(filepath.Join(folder, backupInfo))
	if err != nil {
		return err
	}
	var info snapshot
	if err := json.Unmarshal(text, &info); err != nil {
		return fmt.Errorf("%s: %w", backupInfo, err)
	}
	var config struct {
		Name string `json:"name"`
	}
	if err := json.Unmarshal(info.Config, &config); err != nil || config.Name == "" {
		return fmt.Errorf("%s: it has no stream name (%w)", backupInfo, err)
	}
	data, err := os.Open(filepath.Join(folder, backupData))
	if err != nil {
		return err
	}
	defer func() { _ = data.Close() }()
	var begun struct {
		Deliver string `json:"deliver_subject"`
	}
	if err := ask(ctx, s.conn, "$JS.API.STREAM.RESTORE."+config.Name, info, &begun); err != nil {
		return err
	}
	buf := make([]byte, chunk)
	for {
		n, err := io.ReadFull(data, buf)
		if n > 0 {
			if err := s.send(ctx, begun.Deliver, buf[:n]); err != nil {
				return err
			}
		}
		if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
			break
		}
		if err != nil {
			return err
		}
	}
	return s.send(ctx, begun.Deliver, nil) // the end; the answer says how it went
}

// send sends one piece and waits for the answer, which is empty where all is
// well. In a cluster it takes a moment until the way to the server that restores
// the stream is known; a piece that nobody has heard is sent again.
func (s *Server) send(ctx context.Context, subject string, piece []byte) error {
	for end := time.Now().Add(systemWait); ; {
		msg, err := s.conn.RequestMsgWithContext(ctx, &nats.Msg{Subject: subject, Data: piece})
		if errors.Is(err, nats.ErrNoResponders) && time.Now().Before(end) && wait(ctx, retryPause) == nil {
			continue
		}
		if err != nil || len(msg.Data) == 0 {
			return err
		}
		return decode(msg.Data, nil)
	}
}
