// What a machine of hwsim needs around it in a simulator: a memory behind both AXI4 ports, a host at the AXI4-Lite port,
// and a log of the cycles in which commands start and end. Verilog-2001, for Verilator and Icarus alike; no clock of its
// own. The macro HWSIM_MACHINE names the machine's module. Ports and timing: docs/rtl-cosim.md.

`ifndef HWSIM_MACHINE
`define HWSIM_MACHINE hwsim_machine
`endif

// Memory of an exact latency, or (slack > 0) of a random one with ports that are not always ready.
module hwsim_memory #(
    parameter BEAT_BYTES = 8,
    parameter FETCH_BYTES = 8,
    parameter LATENCY = 24,          // request in t, answer in t + LATENCY
    parameter MEMORY_WORDS = 16384,  // of 32 bits
    parameter QUEUE_BITS = 7         // requests under way at each port: 2 ** QUEUE_BITS
) (
    input clk,
    input rst,
    input [31:0] slack,              // most cycles that an answer comes late; 0: all as exact as can be
    input [31:0] seed,
    input [31:0] bad_first,          // accesses that touch bytes bad_first ... bad_last - 1 are answered with an error
    input [31:0] bad_last,
    input [31:0] file_index,
    input [31:0] first_word,         // of what is loaded
    input [31:0] words,              // of what is loaded, and of the dump, which is from address 0 on
    input load_request,              // a change: read image_<file_index>.hex
    output reg load_done,
    input dump_request,              // a change: write dump_<file_index>.hex
    output reg dump_done,
    output reg [31:0] outside,       // accesses beyond the memory, and bursts of another shape than the ports have

    input [31:0] m_araddr,
    input [7:0] m_arlen,
    input [2:0] m_arsize,
    input [1:0] m_arburst,
    input m_arid,
    input m_arvalid,
    output reg m_arready,
    output m_rid,
    output reg [8*BEAT_BYTES-1:0] m_rdata,
    output reg [1:0] m_rresp,
    output m_rlast,
    output reg m_rvalid,
    input m_rready,
    input [31:0] m_awaddr,
    input [7:0] m_awlen,
    input [2:0] m_awsize,
    input [1:0] m_awburst,
    input m_awid,
    input m_awvalid,
    output reg m_awready,
    input [8*BEAT_BYTES-1:0] m_wdata,
    input [BEAT_BYTES-1:0] m_wstrb,
    input m_wlast,
    input m_wvalid,
    output reg m_wready,
    output m_bid,
    output reg [1:0] m_bresp,
    output reg m_bvalid,
    input m_bready,

    input [31:0] f_araddr,
    input [7:0] f_arlen,
    input [2:0] f_arsize,
    input [1:0] f_arburst,
    input f_arid,
    input f_arvalid,
    output reg f_arready,
    output f_rid,
    output reg [8*FETCH_BYTES-1:0] f_rdata,
    output reg [1:0] f_rresp,
    output reg f_rlast,
    output reg f_rvalid,
    input f_rready
);
    localparam DEPTH = 1 << QUEUE_BITS;
    localparam BURST = 128 / FETCH_BYTES;
    localparam [31:0] BYTES = 4 * MEMORY_WORDS;
    localparam WIDE = 8 * BEAT_BYTES;

    reg [31:0] memory [0:MEMORY_WORDS-1];
    reg [8*32-1:0] name;

    reg [31:0] now;                  // number of the cycle that ends at this edge
    reg [31:0] chance;
    integer i, j;

    reg [31:0] r_due [0:DEPTH-1];
    reg [WIDE-1:0] r_data [0:DEPTH-1];
    reg [1:0] r_resp [0:DEPTH-1];
    reg [31:0] f_due [0:DEPTH-1];
    reg [31:0] f_addr [0:DEPTH-1];
    reg [31:0] aw_addr [0:DEPTH-1];
    reg [WIDE-1:0] w_data [0:DEPTH-1];
    reg [BEAT_BYTES-1:0] w_strb [0:DEPTH-1];
    reg [31:0] b_due [0:DEPTH-1];
    reg [1:0] b_resp [0:DEPTH-1];
    reg [QUEUE_BITS-1:0] r_head, r_tail, f_head, f_tail, aw_head, aw_tail, w_head, w_tail, b_head, b_tail;
    reg [7:0] f_beat;
    reg r_full, f_full, b_full;
    reg [1055:0] line;
    reg [31:0] word;

    assign m_rid = 1'b0;
    assign m_rlast = 1'b1;
    assign m_bid = 1'b0;
    assign f_rid = 1'b0;

    function [31:0] next;            // xorshift
        input [31:0] x;
        reg [31:0] y;
        begin
            y = x ^ (x << 13);
            y = y ^ (y >> 17);
            next = y ^ (y << 5);
        end
    endfunction

    function [31:0] log2;
        input [31:0] size;
        integer n;
        begin
            n = 0;
            while ((32'd1 << n) < size) n = n + 1;
            log2 = n;
        end
    endfunction

    function [1:0] response;         // of an access to so many bytes at an address
        input [31:0] address;
        input [31:0] size;
        begin
            if (address >= BYTES || BYTES - address < size) response = 2'd3;
            else if (address < bad_last && address + size > bad_first) response = 2'd2;
            else response = 2'd0;
        end
    endfunction

    function room;                   // in a queue, with one place to spare
        input [QUEUE_BITS-1:0] head;
        input [QUEUE_BITS-1:0] tail;
        reg [QUEUE_BITS-1:0] used;
        begin
            used = tail - head;
            room = used < DEPTH - 2;
        end
    endfunction

    always @(posedge clk) begin
        if (load_request !== load_done) begin
            $sformat(name, "image_%0d.hex", file_index);
            $readmemh(name, memory, first_word, first_word + words - 1);
            load_done <= load_request;
            chance = seed == 0 ? 32'd1 : seed;
        end
        if (dump_request !== dump_done) begin
            $sformat(name, "dump_%0d.hex", file_index);
            $writememh(name, memory, 0, words - 1);
            dump_done <= dump_request;
        end
        if (rst) begin
            {r_head, r_tail, f_head, f_tail, aw_head, aw_tail, w_head, w_tail, b_head, b_tail} = 0;
            {r_full, f_full, b_full, f_beat, now, outside} = 0;
            chance = 32'd1;
            load_done <= load_request;
            dump_done <= dump_request;
        end else begin
            now = now + 1;
            chance = next(chance);
            if (m_rvalid && m_rready) r_full = 0;
            if (f_rvalid && f_rready) f_full = 0;
            if (m_bvalid && m_bready) b_full = 0;

            // Requests. A read takes what is there before the writes of its cycle.
            if (m_arvalid && m_arready) begin
                if (m_arlen != 0 || m_arsize != log2(BEAT_BYTES) || m_arburst != 1 || m_araddr % BEAT_BYTES != 0 || m_arid)
                    outside = outside + 1;
                r_resp[r_tail] = response(m_araddr, BEAT_BYTES);
                line = 0;
                if (r_resp[r_tail] == 3) outside = outside + 1;
                if (r_resp[r_tail] == 0)
                    for (i = 0; i < BEAT_BYTES / 4; i = i + 1) line[32*i +: 32] = memory[m_araddr[31:2] + i];
                r_data[r_tail] = line[WIDE-1:0];
                r_due[r_tail] = due(chance);
                r_tail = r_tail + 1;
            end
            if (f_arvalid && f_arready) begin
                if (f_arlen != BURST - 1 || f_arsize != log2(FETCH_BYTES) || f_arburst != 1 || f_araddr % 128 != 0 || f_arid)
                    outside = outside + 1;
                f_addr[f_tail] = f_araddr;
                f_due[f_tail] = due(chance >> 5);
                f_tail = f_tail + 1;
            end
            if (m_awvalid && m_awready) begin
                if (m_awlen != 0 || m_awsize != log2(BEAT_BYTES) || m_awburst != 1 || m_awaddr % BEAT_BYTES != 0 || m_awid)
                    outside = outside + 1;
                aw_addr[aw_tail] = m_awaddr;
                aw_tail = aw_tail + 1;
            end
            if (m_wvalid && m_wready) begin
                if (!m_wlast) outside = outside + 1;
                w_data[w_tail] = m_wdata;
                w_strb[w_tail] = m_wstrb;
                w_tail = w_tail + 1;
            end
            while (aw_head != aw_tail && w_head != w_tail) begin
                b_resp[b_tail] = response(aw_addr[aw_head], BEAT_BYTES);
                if (b_resp[b_tail] == 3) outside = outside + 1;
                if (b_resp[b_tail] == 0)
                    for (i = 0; i < BEAT_BYTES / 4; i = i + 1) begin
                        word = memory[aw_addr[aw_head] / 4 + i];
                        for (j = 0; j < 4; j = j + 1)
                            if (w_strb[w_head][4*i + j]) word[8*j +: 8] = w_data[w_head][32*i + 8*j +: 8];
                        memory[aw_addr[aw_head] / 4 + i] = word;
                    end
                b_due[b_tail] = due(chance >> 9);
                b_tail = b_tail + 1;
                aw_head = aw_head + 1;
                w_head = w_head + 1;
            end

            // Answers, in order, of the cycle that begins.
            if (!r_full && r_head != r_tail && r_due[r_head] <= now + 1 && comes(chance[1:0])) begin
                m_rdata <= r_data[r_head];
                m_rresp <= r_resp[r_head];
                r_head = r_head + 1;
                r_full = 1;
            end
            if (!f_full && f_head != f_tail && f_due[f_head] <= now + 1 && comes(chance[3:2])) begin
                word = f_addr[f_head] + f_beat * FETCH_BYTES;
                line = 0;
                f_rresp <= response(word, FETCH_BYTES);
                if (response(word, FETCH_BYTES) == 3) outside = outside + 1;
                if (response(word, FETCH_BYTES) == 0)
                    for (i = 0; i < (FETCH_BYTES + 3) / 4; i = i + 1) line[32*i +: 32] = memory[word / 4 + i];
                line = line >> (8 * (word % 4));
                f_rdata <= line[8*FETCH_BYTES-1:0];
                f_rlast <= f_beat == BURST - 1;
                f_full = 1;
                if (f_beat == BURST - 1) begin
                    f_head = f_head + 1;
                    f_beat = 0;
                end else f_beat = f_beat + 1;
            end
            if (!b_full && b_head != b_tail && b_due[b_head] <= now + 1 && comes(chance[5:4])) begin
                m_bresp <= b_resp[b_head];
                b_head = b_head + 1;
                b_full = 1;
            end
        end
        m_rvalid <= r_full;
        f_rvalid <= f_full;
        m_bvalid <= b_full;
        m_arready <= room(r_head, r_tail) && comes(chance[7:6]);
        f_arready <= room(f_head, f_tail) && comes(chance[9:8]);
        m_awready <= room(aw_head, aw_tail) && room(b_head, b_tail) && comes(chance[11:10]);
        m_wready <= room(w_head, w_tail) && room(b_head, b_tail) && comes(chance[13:12]);
    end

    function comes;                  // whether what could be in the next cycle is
        input [1:0] draw;
        comes = slack == 0 || draw != 0;
    endfunction

    function [31:0] due;             // cycle of the answer to a request of this cycle
        input [31:0] draw;
        due = now + (slack == 0 ? LATENCY : 1 + draw % (LATENCY + slack));
    endfunction
endmodule


// One access to the AXI4-Lite port at a time: a change of `request` begins it, `done` follows when it is over.
module hwsim_host (
    input clk,
    input rst,
    input request,
    input write,
    input [11:0] address,
    input [31:0] data,
    input late,                      // data of a write follow its address
    output reg done,
    output reg [31:0] value,
    output reg [1:0] result,

    output [11:0] awaddr,
    output reg awvalid,
    input awready,
    output [31:0] wdata,
    output [3:0] wstrb,
    output reg wvalid,
    input wready,
    input [1:0] bresp,
    input bvalid,
    output reg bready,
    output [11:0] araddr,
    output reg arvalid,
    input arready,
    input [31:0] rdata,
    input [1:0] rresp,
    input rvalid,
    output reg rready
);
    reg busy, waits;

    assign awaddr = address;
    assign araddr = address;
    assign wdata = data;
    assign wstrb = 4'hf;

    always @(posedge clk) begin
        if (rst) begin
            {awvalid, wvalid, bready, arvalid, rready, busy, waits} <= 0;
            done <= request;
        end else if (!busy) begin
            if (request !== done) begin
                busy <= 1;
                awvalid <= write;
                wvalid <= write && !late;
                waits <= write && late;
                bready <= write;
                arvalid <= !write;
                rready <= !write;
            end
        end else begin
            if (waits) begin
                wvalid <= 1;
                waits <= 0;
            end
            if (awvalid && awready) awvalid <= 0;
            if (wvalid && wready) wvalid <= 0;
            if (arvalid && arready) arvalid <= 0;
            if (bvalid && bready || rvalid && rready) begin
                value <= rdata;
                result <= bready ? bresp : rresp;
                {bready, rready, busy} <= 0;
                done <= request;
            end
        end
    end
endmodule


// Counts breaches of the rule that a valid request stands unchanged until it is taken.
module hwsim_steady #(
    parameter WIDTH = 1
) (
    input clk,
    input rst,
    input valid,
    input ready,
    input [WIDTH-1:0] payload,
    output reg [15:0] broken
);
    reg stood;
    reg [WIDTH-1:0] earlier;

    always @(posedge clk) begin
        stood <= valid && !ready;
        earlier <= payload;
        if (rst) begin
            stood <= 0;
            broken <= 0;
        end else if (stood && (!valid || payload !== earlier)) broken <= broken + 1;
    end
endmodule


// Writes events_<file_index>.txt while `armed`: a line of cycle, started, ended and dispatched for every cycle with any
// of them; cycles count from cycle 0 of the program.
module hwsim_events (
    input clk,
    input rst,
    input armed,
    input [31:0] file_index,
    input [31:0] most_cycles,
    input interrupt,
    input running,
    input [3:0] started,
    input [3:0] ended,
    input dispatched,
    output reg [31:0] cycle,
    output reg finished,             // interrupt, or so many cycles have passed; until it is armed anew
    output reg timed_out
);
    integer file;
    reg is_open;
    reg begun;                       // the interrupt of the program before may still be up
    reg [8*32-1:0] name;
    reg [31:0] waited;

    always @(posedge clk) begin
        if (rst || !armed) begin
            if (is_open === 1'b1) $fclose(file);
            {is_open, begun, finished, timed_out} = 0;
            waited = 0;
            cycle = 0;
        end else begin
            if (!is_open && !finished) begin
                $sformat(name, "events_%0d.txt", file_index);
                file = $fopen(name, "w");
                is_open = 1;
            end
            if (running && (started != 0 || ended != 0 || dispatched))
                $fwrite(file, "%0d %0d %0d %0d\n", cycle, started, ended, dispatched);
            if (running) cycle = cycle + 1;
            if (running) begun = 1;
            waited = waited + 1;
            if (!finished && (begun && interrupt || waited >= most_cycles)) begin
                timed_out = !(begun && interrupt);
                finished = 1;
            end
        end
    end
endmodule


module hwsim_bench #(
    parameter BEAT_BYTES = 8,
    parameter FETCH_BYTES = 8,
    parameter LATENCY = 24,
    parameter MEMORY_WORDS = 16384,
    parameter QUEUE_BITS = 7
) (
    input clk,
    input rst,
    input [31:0] file_index,
    input [31:0] first_word,
    input [31:0] words,
    input load_request,
    output load_done,
    input dump_request,
    output dump_done,
    input [31:0] slack,
    input [31:0] seed,
    input [31:0] bad_first,
    input [31:0] bad_last,
    input host_request,
    input host_write,
    input [11:0] host_address,
    input [31:0] host_data,
    output host_done,
    output [31:0] host_value,
    output [1:0] host_result,
    input armed,
    input [31:0] most_cycles,
    output finished,
    output timed_out,
    output [31:0] cycle,
    output [31:0] breaches           // of the protocol, and accesses beyond the memory
);
    wire m_arid, m_arvalid, m_arready, m_rid, m_rlast, m_rvalid, m_rready;
    wire m_awid, m_awvalid, m_awready, m_wlast, m_wvalid, m_wready, m_bid, m_bvalid, m_bready;
    wire [31:0] m_araddr, m_awaddr;
    wire [7:0] m_arlen, m_awlen;
    wire [2:0] m_arsize, m_awsize;
    wire [1:0] m_arburst, m_awburst, m_rresp, m_bresp;
    wire [8*BEAT_BYTES-1:0] m_rdata, m_wdata;
    wire [BEAT_BYTES-1:0] m_wstrb;
    wire f_arid, f_arvalid, f_arready, f_rid, f_rlast, f_rvalid, f_rready;
    wire [31:0] f_araddr;
    wire [7:0] f_arlen;
    wire [2:0] f_arsize;
    wire [1:0] f_arburst, f_rresp;
    wire [8*FETCH_BYTES-1:0] f_rdata;
    wire [11:0] s_awaddr, s_araddr;
    wire [31:0] s_wdata, s_rdata;
    wire [3:0] s_wstrb;
    wire [1:0] s_bresp, s_rresp;
    wire s_awvalid, s_awready, s_wvalid, s_wready, s_bvalid, s_bready, s_arvalid, s_arready, s_rvalid, s_rready;
    wire interrupt, trace_running, trace_dispatched;
    wire [3:0] trace_started, trace_ended;
    wire [31:0] outside;
    wire [15:0] broken_m_ar, broken_f_ar, broken_aw, broken_w;

    assign breaches = outside + broken_m_ar + broken_f_ar + broken_aw + broken_w;

    `HWSIM_MACHINE machine (
        .clk(clk), .rst(rst),
        .m_axi_arid(m_arid), .m_axi_araddr(m_araddr), .m_axi_arlen(m_arlen), .m_axi_arsize(m_arsize),
        .m_axi_arburst(m_arburst), .m_axi_arvalid(m_arvalid), .m_axi_arready(m_arready),
        .m_axi_rid(m_rid), .m_axi_rdata(m_rdata), .m_axi_rresp(m_rresp), .m_axi_rlast(m_rlast),
        .m_axi_rvalid(m_rvalid), .m_axi_rready(m_rready),
        .m_axi_awid(m_awid), .m_axi_awaddr(m_awaddr), .m_axi_awlen(m_awlen), .m_axi_awsize(m_awsize),
        .m_axi_awburst(m_awburst), .m_axi_awvalid(m_awvalid), .m_axi_awready(m_awready),
        .m_axi_wdata(m_wdata), .m_axi_wstrb(m_wstrb), .m_axi_wlast(m_wlast), .m_axi_wvalid(m_wvalid),
        .m_axi_wready(m_wready),
        .m_axi_bid(m_bid), .m_axi_bresp(m_bresp), .m_axi_bvalid(m_bvalid), .m_axi_bready(m_bready),
        .f_axi_arid(f_arid), .f_axi_araddr(f_araddr), .f_axi_arlen(f_arlen), .f_axi_arsize(f_arsize),
        .f_axi_arburst(f_arburst), .f_axi_arvalid(f_arvalid), .f_axi_arready(f_arready),
        .f_axi_rid(f_rid), .f_axi_rdata(f_rdata), .f_axi_rresp(f_rresp), .f_axi_rlast(f_rlast),
        .f_axi_rvalid(f_rvalid), .f_axi_rready(f_rready),
        .s_axil_awaddr(s_awaddr), .s_axil_awvalid(s_awvalid), .s_axil_awready(s_awready),
        .s_axil_wdata(s_wdata), .s_axil_wstrb(s_wstrb), .s_axil_wvalid(s_wvalid), .s_axil_wready(s_wready),
        .s_axil_bresp(s_bresp), .s_axil_bvalid(s_bvalid), .s_axil_bready(s_bready),
        .s_axil_araddr(s_araddr), .s_axil_arvalid(s_arvalid), .s_axil_arready(s_arready),
        .s_axil_rdata(s_rdata), .s_axil_rresp(s_rresp), .s_axil_rvalid(s_rvalid), .s_axil_rready(s_rready),
        .interrupt(interrupt), .trace_running(trace_running), .trace_dispatched(trace_dispatched),
        .trace_started(trace_started), .trace_ended(trace_ended)
    );

    hwsim_memory #(
        .BEAT_BYTES(BEAT_BYTES), .FETCH_BYTES(FETCH_BYTES), .LATENCY(LATENCY), .MEMORY_WORDS(MEMORY_WORDS),
        .QUEUE_BITS(QUEUE_BITS)
    ) memory (
        .clk(clk), .rst(rst), .slack(slack), .seed(seed), .bad_first(bad_first), .bad_last(bad_last),
        .file_index(file_index), .first_word(first_word), .words(words), .load_request(load_request), .load_done(load_done),
        .dump_request(dump_request), .dump_done(dump_done), .outside(outside),
        .m_arid(m_arid), .m_araddr(m_araddr), .m_arlen(m_arlen), .m_arsize(m_arsize), .m_arburst(m_arburst),
        .m_arvalid(m_arvalid), .m_arready(m_arready), .m_rid(m_rid), .m_rdata(m_rdata), .m_rresp(m_rresp),
        .m_rlast(m_rlast), .m_rvalid(m_rvalid), .m_rready(m_rready),
        .m_awid(m_awid), .m_awaddr(m_awaddr), .m_awlen(m_awlen), .m_awsize(m_awsize), .m_awburst(m_awburst),
        .m_awvalid(m_awvalid), .m_awready(m_awready), .m_wdata(m_wdata), .m_wstrb(m_wstrb), .m_wlast(m_wlast),
        .m_wvalid(m_wvalid), .m_wready(m_wready), .m_bid(m_bid), .m_bresp(m_bresp), .m_bvalid(m_bvalid),
        .m_bready(m_bready),
        .f_arid(f_arid), .f_araddr(f_araddr), .f_arlen(f_arlen), .f_arsize(f_arsize), .f_arburst(f_arburst),
        .f_arvalid(f_arvalid), .f_arready(f_arready), .f_rid(f_rid), .f_rdata(f_rdata), .f_rresp(f_rresp),
        .f_rlast(f_rlast), .f_rvalid(f_rvalid), .f_rready(f_rready)
    );

    hwsim_host host (
        .clk(clk), .rst(rst), .request(host_request), .write(host_write), .address(host_address), .data(host_data),
        .late(slack != 0), .done(host_done), .value(host_value), .result(host_result),
        .awaddr(s_awaddr), .awvalid(s_awvalid), .awready(s_awready), .wdata(s_wdata), .wstrb(s_wstrb),
        .wvalid(s_wvalid), .wready(s_wready), .bresp(s_bresp), .bvalid(s_bvalid), .bready(s_bready),
        .araddr(s_araddr), .arvalid(s_arvalid), .arready(s_arready), .rdata(s_rdata), .rresp(s_rresp),
        .rvalid(s_rvalid), .rready(s_rready)
    );

    hwsim_events events (
        .clk(clk), .rst(rst), .armed(armed), .file_index(file_index), .most_cycles(most_cycles), .interrupt(interrupt),
        .running(trace_running), .started(trace_started), .ended(trace_ended), .dispatched(trace_dispatched),
        .cycle(cycle), .finished(finished), .timed_out(timed_out)
    );

    hwsim_steady #(.WIDTH(46)) steady_m_ar (
        .clk(clk), .rst(rst), .valid(m_arvalid), .ready(m_arready),
        .payload({m_araddr, m_arlen, m_arsize, m_arburst, m_arid}), .broken(broken_m_ar)
    );
    hwsim_steady #(.WIDTH(46)) steady_f_ar (
        .clk(clk), .rst(rst), .valid(f_arvalid), .ready(f_arready),
        .payload({f_araddr, f_arlen, f_arsize, f_arburst, f_arid}), .broken(broken_f_ar)
    );
    hwsim_steady #(.WIDTH(46)) steady_aw (
        .clk(clk), .rst(rst), .valid(m_awvalid), .ready(m_awready),
        .payload({m_awaddr, m_awlen, m_awsize, m_awburst, m_awid}), .broken(broken_aw)
    );
    hwsim_steady #(.WIDTH(9 * BEAT_BYTES + 1)) steady_w (
        .clk(clk), .rst(rst), .valid(m_wvalid), .ready(m_wready), .payload({m_wdata, m_wstrb, m_wlast}),
        .broken(broken_w)
    );
endmodule
