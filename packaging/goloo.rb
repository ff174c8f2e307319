class Goloo < Formula
  desc "Create the same virtual machine on your own computer or in AWS"
  homepage "@REPOSITORY@"
  url "@REPOSITORY@/releases/download/v@VERSION@/goloo-@VERSION@-@TARGET@.tar.gz"
  sha256 "@SHA256@"
  license any_of: ["MIT", "Apache-2.0"]

  depends_on arch: :@ARCH@
  depends_on :@OS@
  depends_on "qemu"

  def install
    prefix.install "bin", "share"
  end

  test do
    assert_match version.to_s, shell_output("#{bin}/goloo --version")
  end
end
