// A stream's hold on its part: hands every call to the table, which guards it all. What the client
// is to blame for aborts the part.
#ifndef CKPT_SERVER_STAGING_PART_STREAM_H_
#define CKPT_SERVER_STAGING_PART_STREAM_H_

#include <memory>
#include <string>
#include <utility>

#include "server/staging/checkpoint_table_impl.h"

namespace ckpt {

class TablePartStream : public PartStream {
 public:
  TablePartStream(CheckpointTableImpl* table, CheckpointTableImpl::CheckpointPtr checkpoint,
                  CheckpointTableImpl::PartPtr part, uint64_t stream)
      : table_(table),
        checkpoint_(std::move(checkpoint)),
        part_(std::move(part)),
        stream_(stream) {}
  ~TablePartStream() override { table_->Detach(checkpoint_, part_, stream_); }

  absl::Status status() const override { return table_->StreamStatus(checkpoint_, part_, stream_); }
  bool needs_layout() const override { return table_->NeedsLayout(part_); }
  absl::Status SetLayout(std::string serialized) override {
    return Blame(table_->SetLayout(checkpoint_, part_, stream_, std::move(serialized)));
  }
  absl::StatusOr<v1::Accepted> Open(absl::FunctionRef<bool()> cancelled) override {
    absl::StatusOr<v1::Accepted> accepted = table_->Open(checkpoint_, part_, stream_, cancelled);
    if (accepted.ok()) buffer_ = table_->BufferOf(part_);
    table_->NoteRefusal(part_, stream_, accepted.status());
    return accepted;
  }
  absl::StatusOr<uint64_t> SetValues(absl::string_view serialized) override {
    absl::StatusOr<uint64_t> bytes = table_->SetValues(checkpoint_, part_, stream_, serialized);
    if (!bytes.ok()) return Blame(bytes.status());
    return bytes;
  }
  absl::Status SetSourceHashes(std::vector<uint64_t> hashes) override {
    return Blame(table_->SetSourceHashes(checkpoint_, part_, stream_, std::move(hashes)));
  }
  absl::Status Progress(uint64_t written) override {
    return Blame(table_->Progress(checkpoint_, part_, stream_, written));
  }
  absl::Status Write(uint64_t offset, const ReceivedBytes& bytes) override {
    return Blame(table_->Write(checkpoint_, part_, stream_, offset, bytes));
  }
  uint64_t received() const override { return buffer_ == nullptr ? 0 : buffer_->written(); }
  uint64_t credit() const override { return buffer_ == nullptr ? 0 : buffer_->credit(); }
  absl::StatusOr<v1::Staged> Finish(uint64_t part_bytes,
                                    absl::FunctionRef<bool()> cancelled) override {
    buffer_ = nullptr;  // so that the tier may give the file up as soon as it is durable
    absl::StatusOr<v1::Staged> staged =
        table_->Finish(checkpoint_, part_, stream_, part_bytes, cancelled);
    if (!staged.ok()) return Blame(staged.status());
    return staged;
  }
  void GiveUp(absl::Status why) override {
    table_->GiveUp(checkpoint_, part_, stream_, std::move(why));
  }

 private:
  absl::Status Blame(absl::Status status) {
    if (absl::IsInvalidArgument(status) || absl::IsFailedPrecondition(status) ||
        absl::IsInternal(status)) {
      GiveUp(status);
    }
    return status;
  }

  CheckpointTableImpl* const table_;
  const CheckpointTableImpl::CheckpointPtr checkpoint_;
  const CheckpointTableImpl::PartPtr part_;
  const uint64_t stream_;
  std::shared_ptr<PartBuffer> buffer_;
};

}  // namespace ckpt

#endif  // CKPT_SERVER_STAGING_PART_STREAM_H_
