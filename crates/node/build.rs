//! Compiles the kernel programs: one object per `bpf/*.bpf.c`, embedded by `src/object.rs`.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs};

fn main() {
    println!("cargo::rerun-if-changed=bpf");
    println!("cargo::rerun-if-env-changed=CLANG");
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets OUT_DIR"));
    let headers = env::var("DEP_BPF_INCLUDE").expect("libbpf-sys says where its headers are");
    let sources = fs::read_dir("bpf").expect("the folder of the kernel programs is here");
    for source in sources.map(|entry| entry.expect("a readable folder").path()) {
        if source.to_string_lossy().ends_with(".bpf.c") {
            compile(&source, &out, &headers);
        }
    }
}

fn compile(source: &Path, out: &Path, headers: &str) {
    let clang = env::var("CLANG").unwrap_or_else(|_| "clang".to_owned());
    let object = out.join(
        source
            .with_extension("o")
            .file_name()
            .expect("a file has a name"),
    );
    let mut command = Command::new(&clang);
    command
        .args([
            "-g",
            "-O2",
            "-Wall",
            "-Wextra",
            "-Wno-unused-parameter",
            "-Werror",
        ])
        // v3 for atomic operations that give the old value (Linux 5.12).
        .args(["-target", "bpf", "-mcpu=v3"])
        .args(["-isystem", headers])
        .args(["-isystem", &format!("/usr/include/{}", multiarch())])
        .arg("-fdebug-prefix-map=/=")
        .args(["-c", "-o"])
        .args([&object, source]);
    match command.status() {
        Ok(status) if status.success() => {}
        Ok(status) => panic!("{clang} could not compile {}: {status}", source.display()),
        Err(error) => panic!(
            "{clang}, which compiles the kernel programs, could not be started: {error}\n\
             Install it (`scripts/setup`, or `apt-get install clang`), or name another by CLANG."
        ),
    }
}

/// Debian keeps the kernel's `asm/` headers by architecture.
fn multiarch() -> String {
    let arch = env::var("CARGO_CFG_TARGET_ARCH").expect("cargo sets it");
    format!("{arch}-linux-gnu")
}
