// Stands in for a machine in its bench: from address PROGRAM on it copies COMMANDS beats of 8 bytes to 4,096 bytes
// further, one added to each, and fetches the 128 bytes there. It measures: cycles from request to answer of its first
// read (register 0x40), of the fetch's last beat (0x44) and of its first write (0x48); what it saw of responses (0x4c).
module traffic (
    input clk, input rst,
    output m_axi_arid, output reg [31:0] m_axi_araddr, output [7:0] m_axi_arlen, output [2:0] m_axi_arsize,
    output [1:0] m_axi_arburst, output reg m_axi_arvalid, input m_axi_arready,
    input m_axi_rid, input [63:0] m_axi_rdata, input [1:0] m_axi_rresp, input m_axi_rlast, input m_axi_rvalid,
    output m_axi_rready,
    output m_axi_awid, output reg [31:0] m_axi_awaddr, output [7:0] m_axi_awlen, output [2:0] m_axi_awsize,
    output [1:0] m_axi_awburst, output reg m_axi_awvalid, input m_axi_awready,
    output reg [63:0] m_axi_wdata, output [7:0] m_axi_wstrb, output m_axi_wlast, output reg m_axi_wvalid,
    input m_axi_wready,
    input m_axi_bid, input [1:0] m_axi_bresp, input m_axi_bvalid, output m_axi_bready,
    output f_axi_arid, output [31:0] f_axi_araddr, output [7:0] f_axi_arlen, output [2:0] f_axi_arsize,
    output [1:0] f_axi_arburst, output reg f_axi_arvalid, input f_axi_arready,
    input f_axi_rid, input [63:0] f_axi_rdata, input [1:0] f_axi_rresp, input f_axi_rlast, input f_axi_rvalid,
    output f_axi_rready,
    input [11:0] s_axil_awaddr, input s_axil_awvalid, output s_axil_awready, input [31:0] s_axil_wdata,
    input [3:0] s_axil_wstrb, input s_axil_wvalid, output s_axil_wready, output [1:0] s_axil_bresp,
    output reg s_axil_bvalid, input s_axil_bready,
    input [11:0] s_axil_araddr, input s_axil_arvalid, output s_axil_arready, output reg [31:0] s_axil_rdata,
    output [1:0] s_axil_rresp, output reg s_axil_rvalid, input s_axil_rready,
    output reg interrupt, output reg trace_running, output trace_dispatched, output [3:0] trace_started,
    output [3:0] trace_ended
);
    reg [31:0] base, count, asked, taken, written, answered, cycle, read_cycles, fetch_cycles, write_cycles, responses;
    reg fetched;
    wire writes = s_axil_awvalid && s_axil_wvalid && !s_axil_bvalid;

    assign {m_axi_arid, m_axi_awid, f_axi_arid, m_axi_arlen, m_axi_awlen, s_axil_bresp, s_axil_rresp} = 0;
    assign {m_axi_arsize, m_axi_awsize, f_axi_arsize} = {3{3'd3}};
    assign {m_axi_arburst, m_axi_awburst, f_axi_arburst} = {3{2'd1}};
    assign {m_axi_bready, m_axi_wlast, f_axi_rready} = 3'b111;
    assign m_axi_wstrb = 8'hff;
    assign f_axi_arlen = 8'd15;
    assign f_axi_araddr = base;
    assign m_axi_rready = !m_axi_awvalid && !m_axi_wvalid;
    assign s_axil_awready = writes;
    assign s_axil_wready = writes;
    assign s_axil_arready = s_axil_arvalid && !s_axil_rvalid;
    assign trace_dispatched = trace_running && cycle == 3;
    assign trace_started = {3'b000, m_axi_arvalid && m_axi_arready};
    assign trace_ended = {m_axi_bvalid, 3'b000};

    always @(posedge clk) begin
        if (writes) begin
            s_axil_bvalid <= 1;
            case (s_axil_awaddr)
                12'h018: base <= s_axil_wdata;
                12'h01c: count <= s_axil_wdata;
                12'h008: begin
                    {asked, taken, written, answered, cycle, responses, fetched, interrupt} <= 0;
                    {trace_running, m_axi_arvalid, f_axi_arvalid} <= 3'b111;
                    m_axi_araddr <= base;
                end
            endcase
        end else if (s_axil_bready) s_axil_bvalid <= 0;
        if (s_axil_arvalid && s_axil_arready) begin
            s_axil_rvalid <= 1;
            case (s_axil_araddr)
                12'h00c: s_axil_rdata <= {30'd0, interrupt, trace_running};
                12'h028: s_axil_rdata <= cycle;
                12'h040: s_axil_rdata <= read_cycles;
                12'h044: s_axil_rdata <= fetch_cycles;
                12'h048: s_axil_rdata <= write_cycles;
                12'h04c: s_axil_rdata <= responses;
                default: s_axil_rdata <= 0;
            endcase
        end else if (s_axil_rready) s_axil_rvalid <= 0;
        if (trace_running) begin
            cycle <= cycle + 1;
            if (f_axi_arvalid && f_axi_arready) begin
                f_axi_arvalid <= 0;
                fetch_cycles <= cycle;
            end
            if (f_axi_rvalid && f_axi_rlast) begin
                fetched <= 1;
                fetch_cycles <= cycle - fetch_cycles;
            end
            if (m_axi_arvalid && m_axi_arready) begin
                if (asked == 0) read_cycles <= cycle;
                asked <= asked + 1;
                m_axi_araddr <= m_axi_araddr + 8;
                if (asked + 1 == count) m_axi_arvalid <= 0;
            end
            if (m_axi_awvalid && m_axi_awready) begin
                m_axi_awvalid <= 0;
                if (written == 1) write_cycles <= cycle;
            end
            if (m_axi_wvalid && m_axi_wready) m_axi_wvalid <= 0;
            if (m_axi_rvalid && m_axi_rready) begin
                if (taken == 0) read_cycles <= cycle - read_cycles;
                taken <= taken + 1;
                written <= written + 1;
                {m_axi_awvalid, m_axi_wvalid} <= 2'b11;
                m_axi_awaddr <= base + 4096 + 8 * taken;
                m_axi_wdata <= m_axi_rdata + 1;
            end
            if (m_axi_bvalid) begin
                if (answered == 0) write_cycles <= cycle - write_cycles;
                answered <= answered + 1;
                if (answered + 1 == count && fetched) {trace_running, interrupt} <= 2'b01;
            end
            responses <= responses | (m_axi_rvalid ? m_axi_rresp : 0) | (m_axi_bvalid ? m_axi_bresp << 4 : 0)
                | (f_axi_rvalid ? f_axi_rresp << 8 : 0);
        end
        if (rst) {m_axi_arvalid, m_axi_awvalid, m_axi_wvalid, f_axi_arvalid, s_axil_bvalid, s_axil_rvalid, interrupt,
                  trace_running, cycle} <= 0;
    end
endmodule
